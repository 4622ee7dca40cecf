import torch

from diffusion_lab.networks.embeddings import ClassEmbedding, thousand_steps


def test_no_label_has_the_last_row():
    classes = ClassEmbedding(3, 4)
    assert list(classes.state_dict()) == ["weight"]
    level = torch.zeros(2)
    torch.testing.assert_close(classes(torch.tensor([1, -1]), level), classes.weight[[1, 3]])
    torch.testing.assert_close(classes(None, level), classes.weight[[3, 3]])


def test_a_level_of_one_is_step_1000_of_the_papers():
    embedded = thousand_steps(8)(torch.tensor([0.25]))[0]
    angles = 250 * 10000.0 ** -(torch.arange(3, -1, -1, dtype=torch.float64) / 3)  # from slow to fast
    torch.testing.assert_close(embedded, torch.cat([angles.sin(), angles.cos()]).float(), atol=1e-4, rtol=0)
