"""Real images made worse in known steps, and which metric notices: python src/judge.py data=folder data.root=DIR"""

from diffusion_lab.programs import judge

if __name__ == "__main__":
    judge()
