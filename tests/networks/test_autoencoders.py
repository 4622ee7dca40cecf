import pytest
import torch

from diffusion_lab.errors import UserError
from diffusion_lab.networks.autoencoder import KLAutoencoder
from diffusion_lab.networks.diffusers_autoencoders import DiffusersAutoencoder
from diffusion_lab.parts import build
from tests.conftest import composed

TINY = {
    "AutoencoderKL": {
        "block_out_channels": [8, 8],
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
        "norm_num_groups": 4,
        "scaling_factor": 0.3611,
        "shift_factor": 0.1159,
    },
    "AutoencoderTiny": {
        "encoder_block_out_channels": [8, 8],
        "decoder_block_out_channels": [8, 8],
        "num_encoder_blocks": [1, 1],
        "num_decoder_blocks": [1, 1],
        "scaling_factor": 0.7,
    },
    "AutoencoderDC": {
        "latent_channels": 4,
        "encoder_block_out_channels": [8, 8],
        "decoder_block_out_channels": [8, 8],
        "encoder_layers_per_block": [1, 1],
        "decoder_layers_per_block": [1, 1],
        "encoder_qkv_multiscales": [[], []],
        "decoder_qkv_multiscales": [[], []],
        "scaling_factor": 0.41407,
    },
}


@pytest.mark.parametrize("kind", TINY)
def test_diffusers_autoencoders_give_their_own_scaled_latents_and_images(kind):
    pytest.importorskip("diffusers")
    torch.manual_seed(0)
    network = DiffusersAutoencoder(kind, channels=3, image_size=16, **TINY[kind]).eval()
    theirs, scale, shift = network.autoencoder, TINY[kind]["scaling_factor"], TINY[kind].get("shift_factor", 0)
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        encoded = theirs.encode(images, return_dict=False)[0]
        sample = encoded if isinstance(encoded, torch.Tensor) else encoded.mode()
        moments = network.moments(images)
        latents = (sample - shift) * scale
        torch.testing.assert_close(moments[:, : network.latent_channels], latents, atol=1e-5, rtol=0)
        own = theirs.decode(latents / scale + shift, return_dict=False)[0]
        torch.testing.assert_close(network.decode(latents), own, atol=1e-5, rtol=0)
        if network.variational:
            deviation = (0.5 * moments[:, network.latent_channels :]).exp()
            torch.testing.assert_close(deviation, encoded.std * scale, atol=1e-5, rtol=0)
    assert latents.shape == (2, network.latent_channels, *[16 // network.factor] * 2)
    assert network.variational == (moments.shape[1] == 2 * network.latent_channels)


@pytest.mark.parametrize(
    ("choice", "factor"),
    [("autoencoder", 4), pytest.param("autoencoder_kl", 4, marks=pytest.mark.slow), ("autoencoder_tiny", 4)],
)
def test_choices_have_the_factor_that_they_say(choice, factor):
    if choice != "autoencoder":
        pytest.importorskip("diffusers")
    cfg = composed("train", "task=autoencoder", f"network={choice}", "data=flowers", "data.image_size=[32,48]")
    network = build(cfg.network, "network")
    with torch.no_grad():
        moments = network.moments(torch.zeros(1, 3, 32, 48))
        assert network.decode(moments[:, : network.latent_channels]).shape == (1, 3, 32, 48)
    assert network.factor == factor
    assert moments.shape[2:] == (32 // factor, 48 // factor)


def test_large_images_become_an_eighth():
    cfg = composed("train", "task=autoencoder", "data=flowers", "data.image_size=128")
    assert build({**cfg.network, "widths": [8, 8]}, "network").factor == 8


def test_a_size_that_does_not_suit_is_refused():
    with pytest.raises(UserError, match=r"network autoencoder takes a multiple of 4 px and sees 30: change data.image_size"):
        KLAutoencoder(3, 30)
    with pytest.raises(UserError, match=r"network.kind=VQModel must be one of AutoencoderKL"):
        DiffusersAutoencoder("VQModel", 3, 32)
