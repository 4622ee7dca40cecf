"""Measure how fast this project is on this machine: python src/benchmark.py, or benchmark=profile"""

from diffusion_lab.programs import benchmark

if __name__ == "__main__":
    benchmark()
