import pytest
import torch
from hydra.utils import instantiate

from diffusion_lab.errors import UserError
from diffusion_lab.networks.reference_unet import ReferenceUNet
from tests.conftest import composed


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
    with pytest.raises(UserError, match=r"multiple of 16 px and sees 60: change data.image_size"):
        ReferenceUNet(image_size=60)


def test_the_keras_examples_has_its_parameters():
    """Counted layer by layer as the example's own code makes them."""
    network = instantiate(composed("train", "network=keras_unet", "data=flowers").network)

    def block(channels: int, width: int) -> int:
        skip = 0 if channels == width else channels * width + width
        return skip + (9 * channels * width + width) + (9 * width * width + width)

    down = [block(64, 32), block(32, 32), block(32, 64), block(64, 64), block(64, 96), block(96, 96)]
    middle = [block(96, 128), block(128, 128)]
    levels = ((128 + 96, 96), (96 + 96, 96), (96 + 64, 64), (64 + 64, 64), (64 + 32, 32), (32 + 32, 32))
    up = [block(*level) for level in levels]
    stem, out = 3 * 32 + 32, 32 * 3 + 3
    expected = sum([stem, *down, *middle, *up, out])
    assert sum(parameter.numel() for parameter in network.parameters()) == expected == 1_950_627
    network.eval()
    assert network(torch.randn(2, 3, 64, 64), torch.rand(2)).shape == (2, 3, 64, 64)
