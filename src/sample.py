"""Draw images from a checkpoint: python src/sample.py checkpoint=FILE count=36 seed=0"""

from diffusion_lab.programs import sample

if __name__ == "__main__":
    sample()
