"""diffusers opens the folder and draws what we draw; where it cannot, one line says why."""

import pytest
import torch

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.commands.checks import plain
from diffusion_lab.errors import UserError
from diffusion_lab.export.diffusers import counted_from_nought
from diffusion_lab.export.diffusers import diffusers as export
from diffusion_lab.export.subject import opened
from diffusion_lab.parts import build
from diffusion_lab.process.seeds import noise_of_images
from diffusion_lab.sampling.samplers import ddim
from tests.commands.test_edit import written_checkpoint
from tests.conftest import composed

diffusers = pytest.importorskip("diffusers")
pipeline_ddim = pytest.importorskip("diffusers.pipelines.ddim.pipeline_ddim")
SMALL = (
    *("network=diffusers", "data.image_size=16", "data.num_classes=0", "space=symmetric"),
    *("schedule=ddpm", "level=time", "network.block_out_channels=[32,32]", "network.layers_per_block=1"),
    *("network.down_block_types=[DownBlock2D,AttnDownBlock2D]", "network.up_block_types=[AttnUpBlock2D,UpBlock2D]"),
)


def written(file, *overrides: str):
    config = plain(composed("train", *SMALL, "guidance=none", *overrides))
    torch.manual_seed(0)
    model = build(config["model"], "model")
    torch.nn.init.normal_(model.network.unet.conv_out.weight, std=0.05)
    torch.save({"config": config, "state_dict": {f"model.{key}": value for key, value in model.state_dict().items()}}, file)
    return opened(load_checkpoint(file))


@pytest.mark.parametrize("target", ["noise", "velocity"])
def test_the_pipeline_draws_the_same_pixels(tmp_path, target, monkeypatch):
    subject = written(tmp_path / "untrained.ckpt", f"target={target}", "level=time")
    export(subject, tmp_path / "pipeline")
    pipeline = diffusers.DiffusionPipeline.from_pretrained(tmp_path / "pipeline")
    pipeline.set_progress_bar_config(disable=True)
    noise = noise_of_images(0, range(2), subject.denoiser.shape)
    monkeypatch.setattr(pipeline_ddim, "randn_tensor", lambda *_, **__: noise)
    drawn = torch.from_numpy(pipeline(batch_size=2, num_inference_steps=5, output_type="np").images).permute(0, 3, 1, 2)
    with torch.no_grad():
        ours = subject.denoiser.space.decode(ddim(subject.denoiser, noise, steps=5))
    assert ours.std() > 0.05
    torch.testing.assert_close(drawn, ours, atol=1e-4, rtol=0)


@pytest.mark.parametrize("flip", [True, False])
def test_a_step_is_counted_from_nought(flip):
    torch.manual_seed(0)
    settings = {"block_out_channels": (32,), "down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    unet = diffusers.UNet2DModel(sample_size=8, in_channels=1, out_channels=1, flip_sin_to_cos=flip, **settings).eval()
    noisy, steps = torch.randn(3, 1, 8, 8), torch.tensor([0.0, 413.0, 998.0])
    with torch.no_grad():
        torch.testing.assert_close(counted_from_nought(unet)(noisy, steps).sample, unet(noisy, steps + 1).sample)


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        (["data.num_classes=10"], "it knows labels"),
        (["space=standardised"], "not from -1 to 1"),
        (["schedule=cosine"], "not one of 1000 discrete steps"),
        (["level=log_snr"], "not told the time"),
    ],
)
def test_what_diffusers_has_not_is_refused_in_one_line(tmp_path, overrides, why):
    subject = written(tmp_path / "untrained.ckpt", "target=noise", "level=time", *overrides)
    with pytest.raises(UserError, match=why):
        export(subject, tmp_path / "pipeline")
    assert not (tmp_path / "pipeline").exists()


def test_our_own_networks_are_refused(tmp_path):
    with pytest.raises(UserError, match="its network is UNet, and UNet2DModel"):
        export(opened(load_checkpoint(written_checkpoint(tmp_path / "untrained.ckpt"))), tmp_path / "pipeline")
