"""Train, sample and score one experiment, or with -m a grid of them: python src/train.py --help"""

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from diffusion_lab.commands.composition import prepare_hydra
from diffusion_lab.commands.train import train

prepare_hydra()


@hydra.main(version_base="1.3", config_path="../conf", config_name="train")
def main(cfg: DictConfig) -> float:
    job = HydraConfig.get()
    return train(cfg, job.runtime.output_dir, is_multirun=job.mode == RunMode.MULTIRUN)


if __name__ == "__main__":
    main()
