"""Put all runs under a folder side by side: python src/report.py DIR"""

import sys

from diffusion_lab.commands.report import main

if __name__ == "__main__":
    main(sys.argv[1:])
