"""A folder of diffusers' own kind, for models that diffusers has a name for."""

import copy
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from diffusion_lab.errors import UserError
from diffusion_lab.export.subject import Exported, Subject
from diffusion_lab.networks.diffusers_unet import DiffusersUNet
from diffusion_lab.process import levels
from diffusion_lab.process.discrete import Discrete
from diffusion_lab.process.targets import Image, Noise, Velocity
from diffusion_lab.spaces.pixels import Pixels

STEPS = 1000  # of the schedule: the network is shown 1000 * time
KINDS = {Noise: "epsilon", Image: "sample", Velocity: "v_prediction"}
USAGE = """\
from diffusers import DiffusionPipeline
pipeline = DiffusionPipeline.from_pretrained("{folder}")
images = pipeline(batch_size=4, num_inference_steps={steps}).images"""


def diffusers(subject: Subject, folder: Path) -> Exported:
    """A DDIMPipeline in `folder`, which draws what `sampler=ddim` draws of the same noise.

    Raises:
        UserError: diffusers has no such model; the message says why.
    """
    reason = _why_not(subject)
    if reason:
        raise UserError(f"format=diffusers has no name for this model: {reason}. Take format=safetensors, onnx or torch")
    from diffusers import DDIMPipeline, DDIMScheduler

    denoiser = subject.denoiser
    alpha_bar = denoiser.schedule.signal_rate**2
    betas = 1 - alpha_bar / torch.cat([torch.ones(1, dtype=alpha_bar.dtype), alpha_bar[:-1]])
    scheduler = DDIMScheduler(
        num_train_timesteps=STEPS,
        trained_betas=betas.tolist(),
        prediction_type=KINDS[type(denoiser.target)],
        clip_sample=False,
        timestep_spacing="trailing",
    )
    unet = counted_from_nought(denoiser.network.unet)
    DDIMPipeline(unet, scheduler).save_pretrained(folder)
    return Exported(folder, USAGE.format(folder=folder.name, steps=subject.config["sampler"]["steps"]))


def _why_not(subject: Subject) -> str | None:
    """In what the model differs from all that diffusers has; None where it does not."""
    denoiser, network = subject.denoiser, getattr(subject.denoiser, "network", None)
    if not find_spec("diffusers"):
        return "diffusers is not installed (pip install diffusers)"
    if not isinstance(network, DiffusersUNet):
        return f"its network is {type(network).__name__}, and UNet2DModel (network=diffusers) is meant"
    if network.num_classes:
        return "it knows labels, and DDIMPipeline asks for none (train with data.num_classes=0)"
    space = denoiser.space
    if not (isinstance(space, Pixels) and (space.mean == 0.5).all() and (space.std == 0.5).all()):
        return "its pixels are not from -1 to 1 (space=symmetric)"
    if not (isinstance(denoiser.schedule, Discrete) and len(denoiser.schedule.signal_rate) == STEPS):
        return f"its schedule is not one of {STEPS} discrete steps, such as schedule=ddpm"
    if type(denoiser.target) not in KINDS:
        return f"its network predicts another thing than noise, image or velocity ({type(denoiser.target).__name__})"
    if getattr(denoiser.level, "func", denoiser.level) is not levels.time:
        return "its network is not told the time (level=time)"
    if network.unet.config.out_channels != network.unet.config.in_channels:
        return "it predicts its variance too (variance=learned)"
    if network.unet.config.time_embedding_type != "positional":
        return "its network has no positional embedding of the time"
    return None


def counted_from_nought(unet: nn.Module) -> nn.Module:
    """A copy of a UNet2DModel that at step t gives what `unet` gives at t + 1: diffusers counts steps from 0.

    The sines and cosines of t + 1 are those of t, turned by fixed angles: so the turn goes into the layer behind them.
    """
    unet = copy.deepcopy(unet)
    layer = unet.time_embedding.linear_1
    turn = unet.time_proj(torch.ones(1)).to(layer.weight.dtype)[0].chunk(2)
    first, second = layer.weight.data.chunk(2, dim=1)  # of the sines and of the cosines, or the other way round
    if unet.config.flip_sin_to_cos:
        cosine, sine = turn
        turned = [cosine * first + sine * second, cosine * second - sine * first]
    else:
        sine, cosine = turn
        turned = [cosine * first - sine * second, cosine * second + sine * first]
    layer.weight.data = torch.cat(turned, dim=1)
    return unet
