"""Kills, faults and hostile files, for some minutes: python src/torture.py minutes=10"""

from diffusion_lab.programs import torture

if __name__ == "__main__":
    torture()
