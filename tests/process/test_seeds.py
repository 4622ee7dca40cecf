import torch

from diffusion_lab.process.seeds import noise_of_images, times_of_images


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
