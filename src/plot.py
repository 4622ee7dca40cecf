"""Draw every noise schedule side by side: python src/plot.py schedules [key=value ...]"""

import sys

from diffusion_lab.commands.plot import main

if __name__ == "__main__":
    main(sys.argv[1:])
