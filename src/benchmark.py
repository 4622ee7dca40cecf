"""Measure how fast this project is on this machine: python src/benchmark.py, or benchmark=profile"""

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from diffusion_lab.benchmarks.run import benchmark
from diffusion_lab.commands.composition import prepare_hydra

prepare_hydra()


@hydra.main(version_base="1.3", config_path="../conf", config_name="benchmark")
def main(cfg: DictConfig) -> None:
    benchmark(cfg, HydraConfig.get().runtime.output_dir)


if __name__ == "__main__":
    main()
