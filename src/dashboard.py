"""Compare the runs of a W&B project, in a workspace and a report: python src/dashboard.py name=GROUP"""

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from diffusion_lab.commands.dashboard import make_dashboard


@hydra.main(version_base="1.3", config_path="../conf", config_name="dashboard")
def main(cfg: DictConfig) -> None:
    make_dashboard(cfg, HydraConfig.get().runtime.output_dir)


if __name__ == "__main__":
    main()
