"""Edit images with a checkpoint: python src/edit.py edit=sdedit checkpoint=FILE image=FILE"""

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from diffusion_lab.commands.composition import prepare_hydra
from diffusion_lab.commands.edit import edit_images

prepare_hydra()


@hydra.main(version_base="1.3", config_path="../conf", config_name="edit")
def main(cfg: DictConfig) -> None:
    edit_images(cfg, HydraConfig.get().runtime.output_dir)


if __name__ == "__main__":
    main()
