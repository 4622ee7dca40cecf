import pytest
import torch

from diffusion_lab.errors import UserError
from diffusion_lab.networks.reference_unet import ReferenceUNet


def test_parameter_count_of_the_reference():
    assert sum(p.numel() for p in ReferenceUNet(channels=3, image_size=64).parameters()) == 3_562_211


def test_starts_as_zero_and_passes_through_four_pixels():
    network = ReferenceUNet()
    sizes = []
    network.middle.register_forward_hook(lambda module, inputs, output: sizes.append(inputs[0].shape))
    output = network(torch.randn(2, 3, 64, 64), torch.rand(2))
    assert output.shape == (2, 3, 64, 64)
    assert output.abs().max() == 0  # the last convolution is zero-initialised
    assert sizes == [(2, 128, 4, 4)]


def test_gives_the_same_in_either_memory_layout():
    torch.manual_seed(0)
    network, noisy, level = ReferenceUNet(image_size=16), torch.randn(2, 3, 16, 16), torch.rand(2)
    torch.nn.init.normal_(network.out.weight)
    layouts = []
    network.stem.register_forward_hook(
        lambda module, inputs, output: layouts.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
    )
    contiguous = network.to(memory_format=torch.contiguous_format)(
        noisy.contiguous(memory_format=torch.channels_last), level
    )
    channels_last = network.to(memory_format=torch.channels_last)(noisy, level)
    assert layouts == [False, True]
    torch.testing.assert_close(contiguous, channels_last, rtol=1e-3, atol=1e-4)


def test_embedding_is_sines_then_cosines_of_16_frequencies_from_1_to_1000():
    embedded = ReferenceUNet().embedding(torch.tensor([0.25]))[0]
    frequencies = [1000 ** (i / 15) for i in range(16)]
    angles = torch.tensor([2 * torch.pi * f * 0.25 for f in frequencies], dtype=torch.float64)
    torch.testing.assert_close(embedded, torch.cat([angles.sin(), angles.cos()]).float(), atol=1e-3, rtol=0)


def test_wrong_size_names_the_multiple():
    with pytest.raises(UserError, match=r"image_size=60 .* multiple of 16"):
        ReferenceUNet(image_size=60)
