import numpy as np
import torch

from diffusion_lab.process.seeds import mixed, noise_of_images, times_of_images


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


def test_noise_is_numpys_philox_of_seed_drawing_and_image_in_full():
    """Whose streams are disjoint: a seed is not cut to its low 32 bits, as torch's CPU generator does."""
    key = np.array([2**40 + 5, (3 << 32) + 7], dtype=np.uint64)
    expected = np.random.Generator(np.random.Philox(key=key)).standard_normal((1, 4, 4), dtype=np.float32)
    assert (noise_of_images(2**40 + 5, [7], (1, 4, 4), drawing=3)[0].numpy() == expected).all()
    assert not torch.equal(noise_of_images(2**40 + 5, [7], (1, 4, 4)), noise_of_images(5, [7], (1, 4, 4)))


def test_no_two_of_many_images_share_noise():
    """With torch's 32-bit seeds about one pair of 50,000 * 2 would (the birthday problem); here none of any number can."""
    first = noise_of_images(0, range(100_000), (2,)).double()
    assert len(torch.unique(first, dim=0)) == 100_000


def test_mixed_seeds_are_unrelated_for_neighbours():
    seeds = {mixed(seed, epoch) for seed in range(100) for epoch in range(100)}
    assert len(seeds) == 100 * 100
    assert max(seeds) < 2**32
