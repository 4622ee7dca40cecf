"""Draw images from a checkpoint: python src/sample.py checkpoint=FILE count=36 seed=0"""

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from diffusion_lab.commands.composition import prepare_hydra
from diffusion_lab.commands.sample import sample_checkpoint

prepare_hydra()


@hydra.main(version_base="1.3", config_path="../conf", config_name="sample")
def main(cfg: DictConfig) -> None:
    sample_checkpoint(cfg, HydraConfig.get().runtime.output_dir)


if __name__ == "__main__":
    main()
