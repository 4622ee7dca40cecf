"""Score a checkpoint, or with -m score it in several ways: python src/evaluate.py checkpoint=FILE"""

from diffusion_lab.programs import evaluate

if __name__ == "__main__":
    evaluate()
