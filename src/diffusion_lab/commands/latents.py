"""What a config says of `space=latents` once its autoencoder is opened."""

from __future__ import annotations

from omegaconf import DictConfig, ListConfig, OmegaConf

from diffusion_lab.errors import UserError
from diffusion_lab.sizes import sides


def latents(key: str, autoencoder: str | None, trusted, image_size):
    """`channels` or `size` of latents of such images; 1 where there is no autoencoder, which is said elsewhere."""
    from diffusion_lab.pretrained.autoencoders import saved_autoencoder

    try:
        network = saved_autoencoder(autoencoder, list(trusted)).network() if autoencoder else None
        height, width = sides(image_size)
    except (UserError, TypeError, ValueError, IndexError):
        return 1
    if network is None:
        return 1
    if key == "channels":
        return network.latent_channels
    height, width = height // network.factor, width // network.factor
    return height if height == width else ListConfig([height, width])


def check_latents(cfg: DictConfig) -> None:
    """Raise UserError where there is no such autoencoder, it does not suit the images, or the rest not latents."""
    space = cfg.get("space") or {}
    if "autoencoder" not in space:
        return
    if not space.autoencoder:
        raise UserError("space.autoencoder=FILE is missing: a checkpoint of task=autoencoder, or diffusers' folder")
    if OmegaConf.select(cfg, "choices.task") == "autoencoder":
        raise UserError("task=autoencoder makes a space, and space=latents takes one: train the autoencoder first")
    from diffusion_lab.pretrained.autoencoders import saved_autoencoder

    size = cfg.data.image_size
    size = list(size) if isinstance(size, ListConfig) else size
    network = saved_autoencoder(space.autoencoder, list(cfg.trusted)).network(size)
    if network.channels != cfg.data.channels:
        raise UserError(f"data.channels={cfg.data.channels}, and space.autoencoder takes images of {network.channels}")
    threshold = (OmegaConf.select(cfg, "sampler.threshold") or {}).get("_target_", "")
    if threshold.endswith((".static", ".dynamic")):
        raise UserError("sampler/threshold clips to black and white, which latents have not: leave it out, or take none")
    if not (OmegaConf.select(cfg, "augmentation._target_") or ".nothing").endswith(".nothing"):
        raise UserError("augmentation changes pixels, and training sees latents: take augmentation=none, with data.flip")
    if OmegaConf.select(cfg, "metrics.vlb_calls"):
        raise UserError("metrics.vlb_calls asks for bits per dimension of pixels, which latents have not")


def with_autoencoder(config: dict) -> dict:
    """The config with what builds the autoencoder in place of where it lies; of another space as it is."""
    space = config["model"].get("space") or {}
    if not isinstance(space.get("autoencoder"), str):
        return config
    from diffusion_lab.pretrained.autoencoders import saved_autoencoder

    saved = saved_autoencoder(space["autoencoder"], config["trusted"])
    space = {**space, "autoencoder": saved.node_for(config["data"]["image_size"]), "sha256": saved.sha256()}
    return {**config, "model": {**config["model"], "space": space}}
