import torch

from diffusion_lab.metrics.fid_infinity import fid_infinity
from diffusion_lab.metrics.quality import fid


def test_of_the_same_distribution_it_is_near_nothing_where_fid_is_not():
    """What few images add to FID falls as 1 / images, for those of both kinds; the real ones are many here."""
    generator = torch.Generator().manual_seed(0)
    real, generated = torch.randn(20000, 12, generator=generator), torch.randn(1000, 12, generator=generator)
    plain = fid(real, generated)
    assert plain > 0.03
    assert abs(fid_infinity(real, generated, seed=0, smallest=0.2)) < plain / 3


def test_a_shift_stays():
    generator = torch.Generator().manual_seed(0)
    real, generated = torch.randn(5000, 4, generator=generator), torch.randn(2000, 4, generator=generator) + 1
    assert abs(fid_infinity(real, generated, seed=0) - 4) < 0.4
