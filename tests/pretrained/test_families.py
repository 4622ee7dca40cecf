"""For each family: from the same noise, at the same steps and with the same guidance our samplers and diffusers' own
pipeline give the same pixels. The pipelines are tiny, their weights random."""

from functools import cache, partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from diffusion_lab.parts import build
from diffusion_lab.pretrained.pipeline import open_pipeline
from diffusion_lab.process.schedules import log_snr
from diffusion_lab.sampling.guidance import ClassifierFreeGuidance
from diffusion_lab.sampling.samplers import ddim, ddpm, euler

diffusers = pytest.importorskip("diffusers")
PROMPTS = ["a red fox", "two boats, at night"]
NEGATIVE = "blurry"
STEPS, SCALE = 4, 3.0
SEED = 7


@cache
def opened(folder):
    return open_pipeline(str(folder), image_size=16 if folder.name == "flux" else None, accelerator="cpu")


def denoiser_of(folder, prompts=None, negative_prompt=None):
    texts = (PROMPTS if prompts is None else prompts) if opened(folder).family.tables else []
    return opened(folder).asked(texts, negative_prompt).model()


def noise_for(denoiser):
    return torch.randn(2, *denoiser.shape, generator=torch.Generator().manual_seed(SEED))


@torch.no_grad()
def ours(denoiser, sampler=ddim, scale=SCALE, rows=(0, 1), **way):
    labels = torch.tensor(rows) if len(denoiser.conditions) else None
    images = sampler(ClassifierFreeGuidance(denoiser, scale), noise_for(denoiser), labels, steps=STEPS, **way)
    return denoiser.space.decode(images)


@cache
def loaded(folder, kind):
    """diffusers' own, and its scheduler's config."""
    pipe = getattr(diffusers, kind).from_pretrained(str(folder))
    pipe.set_progress_bar_config(disable=True)
    return pipe, dict(pipe.scheduler.config)


def pipe_of(folder, kind, sampler=ddim, spacing="trailing", thresholding=False):
    pipe, config = loaded(folder, kind)
    config = {**config, "timestep_spacing": spacing, "clip_sample": False, "thresholding": thresholding}
    if sampler is ddim:
        config |= {"set_alpha_to_one": True, "variance_type": "fixed_small"}
        pipe.scheduler = diffusers.DDIMScheduler.from_config(config)
    elif sampler is ddpm:
        pipe.scheduler = diffusers.DDPMScheduler.from_config(config)
    elif sampler is euler and "FlowMatch" not in type(pipe.scheduler).__name__:
        pipe.scheduler = diffusers.EulerDiscreteScheduler.from_config(config)
    return pipe


def start_of(denoiser, sampler):
    """The noise, for Euler as strong as in ours: diffusers leaves out the image's share."""
    noise = noise_for(denoiser)
    if sampler is ddim:
        return noise
    return noise * torch.sigmoid(-log_snr(*denoiser.schedule(torch.ones(1)))).rsqrt()


def pixels(images):
    return (images / 2 + 0.5).clamp(0, 1)


def generator():
    return torch.Generator().manual_seed(SEED)


def of_text(kind, **more):
    def theirs(folder, denoiser, sampler, scale=SCALE, **asked):
        pipe = pipe_of(folder, kind, sampler)
        settings = {"guidance_scale": scale, "num_inference_steps": STEPS, "output_type": "pt", **more, **asked}
        return pipe(prompt=PROMPTS, latents=start_of(denoiser, sampler), **settings).images

    return theirs


def sd3(folder, denoiser, sampler, scale=SCALE):
    sigmas = np.linspace(1, 1 / STEPS, STEPS)
    settings = {"guidance_scale": scale, "num_inference_steps": STEPS, "sigmas": sigmas, "output_type": "pt"}
    return pipe_of(folder, "StableDiffusion3Pipeline", sampler)(
        prompt=PROMPTS, latents=noise_for(denoiser), **settings
    ).images


def flux(folder, denoiser, sampler, scale=SCALE):
    packed = F.pixel_unshuffle(noise_for(denoiser), 2).flatten(2).transpose(1, 2)
    settings = {"guidance_scale": 3.5, "true_cfg_scale": scale, "negative_prompt": [""] * 2, "height": 16, "width": 16}
    settings |= {"num_inference_steps": STEPS, "output_type": "pt"}
    return pipe_of(folder, "FluxPipeline", sampler)(prompt=PROMPTS, latents=packed, **settings).images


def deepfloyd_if(folder, denoiser, sampler, scale=SCALE, **scheduler):
    settings = {"guidance_scale": scale, "num_inference_steps": STEPS, "output_type": "pt", "generator": generator()}
    return pixels(pipe_of(folder, "IFPipeline", sampler, **scheduler)(prompt=PROMPTS, **settings).images)


def ddpm_pipeline(folder, denoiser, sampler):
    settings = {"batch_size": 2, "num_inference_steps": STEPS, "output_type": "pt", "generator": generator()}
    return pipe_of(folder, "DDPMPipeline", sampler)(**settings).images


def ldm(folder, denoiser, sampler):
    settings = {"batch_size": 2, "num_inference_steps": STEPS, "output_type": "np", "generator": generator()}
    return torch.from_numpy(pipe_of(folder, "LDMPipeline", sampler)(**settings).images).permute(0, 3, 1, 2)


def dit(folder, denoiser, sampler, scale=SCALE):
    settings = {"guidance_scale": scale, "num_inference_steps": STEPS, "output_type": "pt", "generator": generator()}
    return pipe_of(folder, "DiTPipeline", sampler)(class_labels=[0, 1], **settings).images


THEIRS = {
    "stable_diffusion": of_text("StableDiffusionPipeline"),
    "stable_diffusion_2": of_text("StableDiffusionPipeline"),
    "sdxl": of_text("StableDiffusionXLPipeline"),
    "sd3": sd3,
    "flux": flux,
    "pixart": of_text("PixArtAlphaPipeline", use_resolution_binning=False),
    "deepfloyd_if": deepfloyd_if,
    "ddpm": ddpm_pipeline,
    "ldm": ldm,
    "dit": dit,
}
RARER = ("sdxl", "pixart", "ldm")


def paced(family, *more):
    """The rarer families take their time."""
    return pytest.param(family, *more, marks=[pytest.mark.slow] if family in RARER else [])


SAMPLERS = [(family, ddim) for family in THEIRS if family not in ("sd3", "flux")]
SAMPLERS += [(family, euler) for family in ("stable_diffusion", "stable_diffusion_2", "sdxl", "sd3", "flux", "pixart")]


@pytest.mark.parametrize(("family", "sampler"), [paced(*case) for case in SAMPLERS])
def test_ours_and_diffusers_own_pipeline_draw_the_same(folder_of, family, sampler):
    folder = folder_of(family)
    denoiser = denoiser_of(folder)
    found, expected = ours(denoiser, sampler), THEIRS[family](folder, denoiser, sampler)
    assert found.shape == expected.shape
    assert expected.std() > 0.05
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


ASKED = [family for family in THEIRS if family not in ("ddpm", "ldm")]


@pytest.mark.parametrize("family", [paced(family) for family in ASKED])
def test_what_is_asked_for_shows_and_in_its_place(folder_of, family):
    denoiser = denoiser_of(folder_of(family))
    straight, crossed = (ours(denoiser, rows=rows) for rows in ((0, 1), (1, 0)))
    assert (straight - crossed).abs().flatten(1).amax(1).min() > 1e-2
    alone = ours(denoiser, rows=(1, 1))
    torch.testing.assert_close(alone[1], straight[1], rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", ["stable_diffusion", "sd3"])
def test_guidance_1_is_none(folder_of, family):
    folder = folder_of(family)
    denoiser, sampler = denoiser_of(folder), euler if family == "sd3" else ddim
    with torch.no_grad():
        bare = denoiser.space.decode(sampler(denoiser, noise_for(denoiser), torch.tensor([0, 1]), steps=STEPS))
    torch.testing.assert_close(ours(denoiser, sampler, scale=1.0), bare, rtol=0, atol=0)
    torch.testing.assert_close(bare, THEIRS[family](folder, denoiser, sampler, scale=1.0), rtol=0, atol=1e-4)
    assert (bare - ours(denoiser, sampler)).abs().max() > 1e-2


def test_no_condition_is_the_empty_prompt_or_the_negative_one(folder_of):
    folder = folder_of("stable_diffusion")
    denoiser = denoiser_of(folder, negative_prompt=NEGATIVE)
    expected = THEIRS["stable_diffusion"](folder, denoiser, ddim, negative_prompt=[NEGATIVE] * 2)
    torch.testing.assert_close(ours(denoiser), expected, rtol=0, atol=1e-4)
    empty = denoiser_of(folder, prompts=["", "a fox"])
    torch.testing.assert_close(ours(empty, rows=(0, 1)), ours(empty, rows=(-1, 1)), rtol=0, atol=1e-5)
    assert (ours(denoiser) - ours(denoiser_of(folder))).abs().max() > 1e-2


def test_one_step_off_would_be_seen(folder_of):
    folder = folder_of("stable_diffusion")
    denoiser = denoiser_of(folder)
    exact, level = ours(denoiser), denoiser.level
    denoiser.level = lambda *noise: level(*noise) + 1
    assert (ours(denoiser) - exact).abs().max() > 1e-3


def test_each_step_is_asked_for_as_itself(folder_of):
    denoiser = denoiser_of(folder_of("ddpm"))
    steps = torch.arange(1000)
    times = ((steps + 1) / 1000).float()
    assert torch.equal(denoiser.level(times, None, None), steps.float())
    alpha_bar = diffusers.DDPMScheduler().alphas_cumprod
    torch.testing.assert_close(denoiser.schedule(times)[0], alpha_bar.sqrt(), rtol=1e-5, atol=0)


def test_saved_again_it_draws_the_same(folder_of, tmp_path):
    folder = folder_of("stable_diffusion")
    pipe_of(folder, "StableDiffusionPipeline").save_pretrained(str(tmp_path / "again"))
    first, again, reloaded = (ours(denoiser_of(path)) for path in (folder, folder, tmp_path / "again"))
    assert torch.equal(first, again)
    assert torch.equal(first, reloaded)


@pytest.mark.parametrize("thresholding", [False, True])
def test_the_learned_variance_and_the_thresholding_of_if_are_diffusers(folder_of, thresholding):
    """Ancestral steps: the same fresh noise gives the same images only if the variances are the same. Thresholds are those
    of the scheduler's config; both the quantile and its limit are reached."""
    folder = folder_of("deepfloyd_if")
    denoiser = denoiser_of(folder)
    random = generator()
    noises = [torch.randn(2, *denoiser.shape, generator=random) for _ in range(STEPS)]

    def to_step_0(schedule, steps, device):  # where diffusers adds no noise either
        return (torch.tensor([750, 500, 250, 0], dtype=torch.float64) + 1) / 1000

    way = {"variance": "learned", "fresh_noise": lambda call: noises[call + 1], "times": to_step_0}
    if thresholding:
        node = opened(folder).config["sampler"]["threshold"]
        assert (node["quantile"], node["most"]) == (0.95, 1.5)
        way["threshold"] = build(node, "threshold")
    found = ours(denoiser, partial(ddpm, **way))
    expected = deepfloyd_if(folder, denoiser, ddpm, spacing="leading", thresholding=thresholding)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    if thresholding:
        unlimited = {**way, "threshold": partial(way["threshold"], most=None)}
        assert (ours(denoiser, partial(ddpm, **unlimited)) - found).abs().max() > 1e-2


def test_the_second_stage_of_if_enlarges_as_diffusers(folder_of):
    folder = folder_of("deepfloyd_if_ii")
    denoiser = denoiser_of(folder)
    small = torch.rand(2, 3, 16, 16, generator=generator()) * 2 - 1
    settings = {"guidance_scale": SCALE, "num_inference_steps": STEPS, "output_type": "pt", "generator": generator()}
    expected = pixels(pipe_of(folder, "IFSuperResolutionPipeline")(prompt=PROMPTS, image=small, **settings).images)
    random = generator()
    _, augmentation = (torch.randn(2, *denoiser.shape, generator=random) for _ in range(2))
    denoiser.show(small, augmentation)
    torch.testing.assert_close(ours(denoiser), expected, rtol=0, atol=1e-4)
    denoiser.show(-small, augmentation)
    assert (ours(denoiser) - expected).abs().max() > 1e-2
