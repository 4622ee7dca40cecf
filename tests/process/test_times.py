import torch

from diffusion_lab.process.times import stratified, uniform

CPU = torch.device("cpu")


def test_stratified_puts_one_time_in_each_stratum_in_random_order():
    torch.manual_seed(0)
    times = stratified(64, CPU)
    assert sorted((times * 64).long().tolist()) == list(range(64))
    assert times.tolist() != sorted(times.tolist())


def test_stratified_lowers_the_variance_of_a_mean():
    torch.manual_seed(0)
    means = {draw: torch.stack([draw(32, CPU).square().mean() for _ in range(500)]) for draw in (uniform, stratified)}
    for values in means.values():
        assert abs(values.mean().item() - 1 / 3) < 0.01  # the same density: E[t^2] = 1/3
    assert means[stratified].var() < means[uniform].var() / 100
