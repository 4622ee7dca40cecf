"""What 200,000 images cost is measured on a few; that memory does not grow, on 30 GB that the disk does not hold."""

import pytest

from diffusion_lab.benchmarks import many_images

pytestmark = [pytest.mark.usefixtures("within_benchmark"), pytest.mark.slow]


def test_starts_and_a_kill_are_measured(tmp_path):
    listing, first, peak, second, lost, rest = many_images.starts(tmp_path, 1, 0.05, images=300)
    assert [figure.unit for figure in (listing, first, peak, second, lost, rest)] == ["s", "s", "MB", "s", "s", "s"]
    assert second.value < first.value
    assert 50 < peak.value < 1500
    assert 0 <= lost.value < 60


def test_a_training_on_thirty_gigabytes_does_not_grow(tmp_path):
    overrides = ["data.image_size=64", "data.channels=3", "network.widths=[8,8,8]", "batch_size=16"]
    memory, growth = many_images.beyond_memory(tmp_path, 1, 0.05, overrides, gigabytes=30, steps=30)
    assert 100 < memory.value < 3000
    assert growth.value < 2
