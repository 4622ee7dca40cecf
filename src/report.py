"""Put all runs under a folder side by side: python src/report.py DIR"""

from diffusion_lab.programs import report

if __name__ == "__main__":
    report()
