import pytest
import torch

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.commands.checks import plain
from diffusion_lab.errors import UserError
from diffusion_lab.networks.dit import DiT
from diffusion_lab.parts import build
from diffusion_lab.pretrained.weights import network_weights
from diffusion_lab.training.starts import start_from
from tests.commands.test_edit import written_checkpoint
from tests.conftest import composed


def model(*overrides: str):
    return build(plain(composed("train", "network.widths=[16,16]", *overrides))["model"], "model")


def test_a_network_takes_over_weights_and_keeps_its_own_space(tmp_path):
    checkpoint = load_checkpoint(written_checkpoint(tmp_path / "start.ckpt"))
    fresh = model("schedule=linear", "target=noise")  # what the weights are used for may be another
    start_from(fresh, tmp_path / "start.ckpt")
    for key, value in fresh.network.state_dict().items():
        assert torch.equal(value, checkpoint.weights[f"network.{key}"]), key
    assert fresh.space.mean.item() == 0 != checkpoint.weights["space.mean"].item()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["network.widths=[16,32]"], r"stem|down\.1\.0\S+ is \(.*\) there, \(.*\) here"),
        (["network.widths=[16,16]", "network.num_classes=0"], r"classes\.weight is not in this one"),
        (
            ["network.widths=[16,16]", "network.num_classes=3"],
            r"classes\.weight is \(1[01], \d+\) there, \([34], \d+\) here",
        ),
        (["network=dit"], r" and \d+ more\. Take the network"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, overrides, message):
    file = written_checkpoint(tmp_path / "start.ckpt")
    other = build(plain(composed("train", *overrides))["model"], "model")
    with pytest.raises(UserError, match=message):
        start_from(other, file)


def test_what_fits_is_kept_where_that_is_asked_for(tmp_path, caplog):
    file = written_checkpoint(tmp_path / "start.ckpt")
    wider = model("network.widths=[16,32]")
    before = {key: value.clone() for key, value in wider.network.state_dict().items()}
    start_from(wider, file, strict=False)
    theirs = load_checkpoint(file).weights
    taken = [key for key, value in wider.network.state_dict().items() if not torch.equal(value, before[key])]
    assert taken
    assert all(torch.equal(wider.network.state_dict()[key], theirs[f"network.{key}"]) for key in taken)
    assert " tensors fit; not " in caplog.text
    with pytest.raises(UserError, match="does not fit this network"):
        start_from(build(plain(composed("train", "network=dit"))["model"], "model"), file, strict=False)


def test_a_unet_of_diffusers_starts_a_training_as_what_it_is(tmp_path):
    diffusers = pytest.importorskip("diffusers")
    sizes = {"block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4}
    blocks = {"down_block_types": ["DownBlock2D", "AttnDownBlock2D"], "up_block_types": ["AttnUpBlock2D", "UpBlock2D"]}
    theirs = diffusers.UNet2DModel(sample_size=28, in_channels=1, out_channels=1, **sizes, **blocks)
    theirs.save_pretrained(str(tmp_path / "unet"))
    words = ["network.block_out_channels=[8,16]", "network.layers_per_block=1", "+network.norm_num_groups=4"]
    words += [f"network.{key}=[{','.join(value)}]" for key, value in blocks.items()]
    words += [
        "network.downsample_padding=1",
        "network.flip_sin_to_cos=true",
        "network.freq_shift=0",
        "network.norm_eps=1e-5",
    ]
    words += ["network.attention_head_dim=8", "network.num_classes=0", "level=step"]
    fresh = build(plain(composed("train", "network=diffusers", *words))["model"], "model")
    start_from(fresh, tmp_path / "unet")
    noisy, steps = torch.randn(2, 1, 28, 28), torch.tensor([7, 640])
    times = (steps + 1) / 1000
    with torch.no_grad():
        found = fresh.network(noisy, fresh.level(times, None, None))
        torch.testing.assert_close(found, theirs(noisy, steps).sample, rtol=0, atol=1e-4)


def test_a_dit_of_diffusers_starts_ours(tmp_path):
    """Named and laid out differently, the same function."""
    diffusers = pytest.importorskip("diffusers")
    torch.manual_seed(0)
    theirs = diffusers.DiTTransformer2DModel(
        num_attention_heads=2,
        attention_head_dim=8,
        in_channels=3,
        out_channels=6,
        num_layers=2,
        attention_bias=True,
        sample_size=8,
        patch_size=2,
        num_embeds_ada_norm=5,
        norm_eps=1e-6,
    ).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    embedded = [block.norm1.emb for block in theirs.transformer_blocks]
    embedded[1].load_state_dict(embedded[0].state_dict())  # as trained ones have it
    theirs.save_pretrained(str(tmp_path / "dit"))
    ours = DiT(3, 8, num_classes=5, outputs=2, patch=2, width=16, depth=2, heads=2).eval()
    ours.load_state_dict(network_weights(tmp_path / "dit"), strict=True)
    noisy, steps, rows = torch.randn(3, 3, 8, 8), torch.tensor([0, 321, 999]), torch.tensor([4, 0, 5])
    with torch.no_grad():
        expected = theirs(noisy, steps, rows).sample
        found = ours(noisy, steps / 1000, torch.tensor([4, 0, -1]))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.1


def test_other_folders_are_named_as_what_they_are(tmp_path):
    for content, message in (
        (None, "holds no config.json"),
        ('{"_class_name": "AutoencoderKL"}', "is a AutoencoderKL"),
        ('{"_class_name": "UNet2DModel"}', "holds no safetensors"),
    ):
        if content:
            (tmp_path / "config.json").write_text(content)
        with pytest.raises(UserError, match=message):
            network_weights(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"nothing")
    with pytest.raises(UserError, match="is damaged"):
        network_weights(tmp_path)
