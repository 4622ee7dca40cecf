"""Score a checkpoint, or with -m score it in several ways: python src/evaluate.py checkpoint=FILE"""

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from diffusion_lab.commands.composition import prepare_hydra
from diffusion_lab.commands.evaluate import evaluate_checkpoint

prepare_hydra()


@hydra.main(version_base="1.3", config_path="../conf", config_name="evaluate")
def main(cfg: DictConfig) -> float:
    job = HydraConfig.get()
    return evaluate_checkpoint(cfg, job.runtime.output_dir, is_multirun=job.mode == RunMode.MULTIRUN)


if __name__ == "__main__":
    main()
