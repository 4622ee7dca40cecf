"""The figures of a denoiser as a config asks for them; `train.py` and `evaluate.py` share this."""

from hydra.utils import instantiate

from diffusion_lab.data.cache import Decoded
from diffusion_lab.denoiser import Denoiser
from diffusion_lab.hardware import autocast
from diffusion_lab.metrics.evaluation import evaluate


def score(config: dict, decoded: Decoded, denoiser: Denoiser, precision: str) -> dict:
    """Build sampler, extractor and KID from `config` and evaluate `denoiser` with them."""
    metrics = config["metrics"]
    return evaluate(
        denoiser,
        decoded,
        sampler=instantiate(config["sampler"]),
        extractor=instantiate(metrics["extractor"]),
        kid=instantiate(metrics["kid"]),
        protocol=metrics["protocol"],
        samples=metrics["samples"],
        batch_size=metrics["batch_size"],
        seed=config["seed"],
        cache_dir=config["data"]["cache_dir"],
        autocast=autocast(precision, denoiser.mean.device),
    )
