"""Run a W&B sweep file here, without an account: python src/sweep.py sweeps/quick.yaml [overrides] [--dry-run]"""

import sys

from diffusion_lab.commands.sweep import main

if __name__ == "__main__":
    main(sys.argv[1:])
