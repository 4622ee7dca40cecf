"""Draw every noise schedule side by side: python src/plot.py schedules [key=value ...]"""

from diffusion_lab.programs import plot

if __name__ == "__main__":
    plot()
