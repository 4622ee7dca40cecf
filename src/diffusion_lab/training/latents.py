"""What a training in a latent space begins with: the autoencoder's weights, and all images encoded once."""

import torch

from diffusion_lab.data.cache import Decoded
from diffusion_lab.data.encoded import EncodedImages, encoded
from diffusion_lab.data.images import Images, images_of
from diffusion_lab.denoiser import NoisyModel
from diffusion_lab.pretrained.autoencoders import saved_autoencoder
from diffusion_lab.spaces.latents import MeasuredLatents


def images_for(model: NoisyModel, config: dict, decoded: Decoded, device: torch.device) -> Images:
    """What a training of `model` is fed with: pixels or, in a latent space, what they are encoded to. The autoencoder gets
    its weights here. Images that are shifted at random are encoded anew each time."""
    space = model.space
    if not isinstance(space, MeasuredLatents):
        return images_of(config, decoded)
    space.autoencoder.load_state_dict(saved_autoencoder(config["space"]["autoencoder"], config["trusted"]).weights)
    data = config["data"]
    if data["shift"]:
        return images_of(config, decoded)
    space.to(device)
    name = f"latents-{space.sha256[:16]}"
    codes = encoded(decoded, lambda pixels: space.moments(pixels.to(device)), name, data["flip"], data["cache_dir"])
    settings = {key: data[key] for key in ("repeat", "flip", "held_out_images")}
    return EncodedImages(codes, config["batch_size"], seed=config["seed"], **settings)
