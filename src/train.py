"""Train, sample and score one experiment, or with -m a grid of them: python src/train.py --help"""

from diffusion_lab.programs import train

if __name__ == "__main__":
    train()
