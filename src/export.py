"""A checkpoint as a file used elsewhere: python src/export.py checkpoint=FILE format=onnx"""

from diffusion_lab.programs import export

if __name__ == "__main__":
    export()
