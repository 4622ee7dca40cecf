"""Run a W&B sweep file here, without an account: python src/sweep.py sweeps/quick.yaml [overrides] [--dry-run]"""

from diffusion_lab.programs import sweep

if __name__ == "__main__":
    sweep()
