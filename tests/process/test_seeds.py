import numpy as np
import pytest
import torch
from scipy import stats

from diffusion_lab.process import seeds
from diffusion_lab.process.seeds import mixed, noise_of_images, philox, times_of_images


def test_an_images_noise_does_not_depend_on_its_batch():
    together = noise_of_images(3, range(20), (1, 4, 4))
    torch.testing.assert_close(noise_of_images(3, [17], (1, 4, 4))[0], together[17], rtol=0, atol=0)


def test_noise_is_standard_normal_and_images_and_seeds_are_unrelated():
    a, b = noise_of_images(0, range(400), (1, 8, 8)).flatten(1), noise_of_images(1, range(400), (1, 8, 8)).flatten(1)
    assert abs(a.mean()) < 0.02
    assert abs(a.std() - 1) < 0.02
    assert abs((a * b).mean()) < 0.03  # the same image under two seeds
    assert abs((a[1:] * a[:-1]).mean()) < 0.03  # neighbours under one seed


def test_fixed_times_cover_the_unit_interval_evenly():
    times = times_of_images(torch.arange(1000))
    counts = torch.histc(times, bins=10, min=0, max=1)
    assert counts.min() >= 98
    assert counts.max() <= 102


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ([0] * 4, [0] * 2, "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
            [0xA4093822, 0x299F31D0],
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
def test_philox_gives_the_known_answers_of_its_authors(counter, key, words):
    """Random123's file kat_vectors, "philox4x32 10"."""
    given = philox([torch.tensor([word]) for word in counter], tuple(key))
    assert [f"{word.item():08x}" for word in given] == words.split()


def test_noise_follows_the_normal_distribution_far_into_its_tails():
    noise = noise_of_images(7, range(64), (3, 64, 64)).flatten().double().numpy()
    assert stats.kstest(noise, "norm").pvalue > 0.01
    for far in (3, 4):
        expected = 2 * stats.norm.sf(far) * len(noise)
        assert abs((np.abs(noise) > far).sum() - expected) < 4 * expected**0.5


def test_all_of_a_seed_counts():
    """Torch's CPU generator heeds the low 32 bits alone."""
    assert not torch.equal(noise_of_images(2**40 + 5, [7], (1, 4, 4)), noise_of_images(5, [7], (1, 4, 4)))


@pytest.mark.gpu
def test_noise_made_on_a_gpu_is_the_same():
    ours, theirs = (noise_of_images(5, range(9), (3, 17, 17), 2, device) for device in ("cpu", "cuda"))
    torch.testing.assert_close(theirs.cpu(), ours, rtol=1e-5, atol=1e-5)


def test_no_two_of_many_images_share_noise():
    """With torch's 32-bit seeds about one pair of 50,000 * 2 would (the birthday problem); here none of any number can."""
    first = noise_of_images(0, range(100_000), (2,)).double()
    assert len(torch.unique(first, dim=0)) == 100_000


def test_mixed_seeds_are_unrelated_for_neighbours():
    found = {mixed(seed, epoch) for seed in range(100) for epoch in range(100)}
    assert len(found) == 100 * 100
    assert max(found) < 2**32


def test_an_epochs_order_and_its_noise_are_of_different_seeds():
    """On the first device the noise is of (seed, epoch, 0), the order of (seed, epoch)."""
    assert len({mixed(5), mixed(5, 0), mixed(5, 0, 0), mixed(0, 5), mixed(0, 0, 5)}) == 5


def test_noise_is_the_same_however_many_are_made_at_once(monkeypatch):
    """And where the numbers of an image are no multiple of the four that a counter gives."""
    together = noise_of_images(3, range(9), (3, 5, 7))
    assert together.shape == (9, 3, 5, 7)
    monkeypatch.setattr(seeds, "AT_ONCE", 1)
    torch.testing.assert_close(noise_of_images(3, range(9), (3, 5, 7)), together, rtol=0, atol=0)
