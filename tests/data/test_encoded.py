import numpy as np
import torch
from lightning.pytorch import Trainer

from diffusion_lab.data.cache import Decoded
from diffusion_lab.data.encoded import EncodedImages, encoded
from diffusion_lab.data.images import Images

CALLS = []


def codes(pixels):
    """Of what is at the left and at the right."""
    CALLS.append(len(pixels))
    return torch.stack([pixels[:, 0, ::2, 0].float(), -pixels[:, 0, ::2, -1].float()], 1)[..., None]


def some_images() -> Decoded:
    images = np.random.default_rng(0).integers(0, 256, (90, 4, 4, 1), dtype=np.uint8)
    return Decoded(images, np.arange(90), np.arange(70), np.arange(70, 90), [], "some")


def batches(images: Images, training: bool = True) -> list:
    """As Lightning hands them to the module, in epoch 0."""
    images.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    images.trainer.training = training
    torch.manual_seed(5)
    loader = images.train_dataloader() if training else images.val_dataloader()
    return [images.on_after_batch_transfer(batch, 0) for batch in loader]


def test_cached_equals_online(tmp_path):
    decoded = some_images()
    for flip in (False, True):
        cached = EncodedImages(encoded(decoded, codes, "codes", flip, str(tmp_path)), 16, flip=flip)
        online = Images(decoded, 16, flip=flip)
        for training in (True, False):
            for ours, theirs in zip(batches(cached, training), batches(online, training), strict=True):
                assert torch.equal(ours.pixels, codes(theirs.pixels))
                assert torch.equal(ours.label, theirs.label)


def test_everything_is_encoded_once_and_again_where_it_is_damaged(tmp_path):
    decoded = some_images()
    first = encoded(decoded, codes, "codes", True, str(tmp_path)).images.copy()
    CALLS.clear()
    assert np.array_equal(encoded(decoded, codes, "codes", True, str(tmp_path)).images, first)
    assert not CALLS
    file = next(tmp_path.glob("*/images.npy"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert np.array_equal(encoded(decoded, codes, "codes", True, str(tmp_path)).images, first)
    assert sum(CALLS) == 180
    encoded(decoded, codes, "others", True, str(tmp_path))
    assert sum(CALLS) == 360
