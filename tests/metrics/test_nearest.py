import numpy as np
import torch

from diffusion_lab.data.cache import Decoded
from diffusion_lab.metrics import nearest


def test_the_nearest_of_the_training_images_is_found(monkeypatch):
    monkeypatch.setattr(nearest, "CHUNK", 3)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 4, 6, 3), dtype=np.uint8)
    decoded = Decoded(images, np.zeros(20, dtype=np.int64), np.arange(1, 20, 2), np.arange(0, 20, 2), [], "x")
    drawn = torch.from_numpy(np.stack([images[7], images[4]])).permute(0, 3, 1, 2)  # one to train on, one held out
    found, distance = nearest.nearest(drawn, decoded)
    assert torch.equal(found[0], drawn[0])
    assert distance[0] == 0
    differences = (images[1::2].astype(float) - images[4]) / 255
    wanted = np.sqrt((differences**2).mean((1, 2, 3)))
    assert torch.equal(found[1], torch.from_numpy(images[1::2][wanted.argmin()]).permute(2, 0, 1))
    np.testing.assert_allclose(distance[1], wanted.min(), rtol=1e-5)
