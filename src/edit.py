"""Edit images with a checkpoint: python src/edit.py edit=sdedit checkpoint=FILE image=FILE"""

from diffusion_lab.programs import edit

if __name__ == "__main__":
    edit()
