import pickle
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from diffusion_lab.benchmarks.memory import status
from diffusion_lab.data import images, kept
from diffusion_lab.data.cache import Decoded
from diffusion_lab.data.images import Batch, Images, Split, batches_of
from diffusion_lab.hardware import reading_processes


@pytest.fixture
def decoded() -> Decoded:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 6, 6, 3), dtype=np.uint8)
    return Decoded(pixels, np.arange(50), np.arange(10, 50), np.arange(10), [], "key")


def test_an_epoch_visits_each_training_image_repeat_times(decoded):
    data = Images(decoded, batch_size=16, repeat=3)
    seen = torch.cat([batch.label for batch in data.train_dataloader()])
    assert torch.bincount(seen, minlength=50).tolist() == [0] * 10 + [3] * 40
    assert len(data.train_dataloader()) == 8  # 120 images, the last batch is smaller


def test_a_batch_is_the_images_it_names_in_channels_last(decoded):
    batch = next(iter(Images(decoded, batch_size=4).val_dataloader()))
    assert batch.index.tolist() == [0, 1, 2, 3]
    assert batch.pixels.is_contiguous(memory_format=torch.channels_last)
    assert (batch.pixels.permute(0, 2, 3, 1).numpy() == decoded.images[:4]).all()


def test_a_split_in_order_is_each_image_once(decoded):
    batches = list(batches_of(Split(decoded, decoded.train, repeat=3), 16))
    assert [len(batch.pixels) for batch in batches] == [16, 16, 8]
    assert (torch.cat([batch.pixels for batch in batches]).permute(0, 2, 3, 1).numpy() == decoded.images[10:]).all()


def test_another_process_maps_the_file_of_the_images_instead_of_being_given_a_copy(decoded, tmp_path):
    np.save(tmp_path / "images.npy", decoded.images)
    mapped = replace(decoded, images=np.load(tmp_path / "images.npy", mmap_mode="c"))
    for whole, most in ((decoded, None), (mapped, 4000), (replace(mapped, images=mapped.images[5:]), None)):
        sent = pickle.dumps(Images(whole, batch_size=16, repeat=2))
        assert most is None or len(sent) < most  # the images' bytes alone are 5400
        there = pickle.loads(sent).train
        assert bool(getattr(there.decoded.images, "filename", None)) == (most is not None)
        assert (there.images.numpy() == whole.images).all()
        assert (len(there), there.positions.tolist()) == (80, list(range(10, 50)))


def test_validation_sees_the_first_held_out_images_where_they_are_capped(decoded):
    for most, seen in ((None, range(10)), (4, range(4)), (99, range(10))):
        data = Images(decoded, batch_size=3, held_out_images=most)
        assert torch.cat([batch.label for batch in data.val_dataloader()]).tolist() == list(seen)
        assert len(data.train) == 40


def test_a_thinned_split_is_evenly_spread_over_the_disk(decoded, monkeypatch):
    monkeypatch.setattr(images, "STRETCH", 2 * decoded.images[0].nbytes)
    split = Split(decoded, np.random.default_rng(0).permutation(40) + 10, repeat=2)
    size = decoded.images[0].nbytes
    assert split.thinned(40 * size) is split
    thin = split.thinned(15 * size)
    assert thin.positions.tolist() == [i for i in range(10, 50) if (i - 10) % 6 < 2]
    assert len(split.positions) == 40


@pytest.mark.parametrize("training", [True, False])
def test_flips_half_of_the_training_images_and_no_others(decoded, training):
    data = Images(decoded, batch_size=40, flip=True)
    data.trainer = SimpleNamespace(training=training, world_size=1, global_rank=0)
    torch.manual_seed(0)
    batch = next(iter(data.train_dataloader()))
    flipped = data.on_after_batch_transfer(batch, 0).pixels
    same = (flipped == batch.pixels).flatten(1).all(1)
    mirrored = (flipped == batch.pixels.flip(-1)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert (10 <= mirrored.sum() <= 30) if training else same.all()


@pytest.mark.parametrize("training", [True, False])
def test_training_images_move_each_way_and_their_edges_stay(decoded, training):
    data = Images(decoded, batch_size=40, shift=1)
    data.trainer = SimpleNamespace(training=training)
    batch = data.train.__getitems__(list(range(40)) * 10)
    torch.manual_seed(0)
    moved = data.on_after_batch_transfer(batch, 0).pixels
    framed = np.pad(batch.pixels.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge")
    places = [(down, right) for down in range(3) for right in range(3)]
    views = np.stack([framed[..., down : down + 6, right : right + 6] for down, right in places])
    counts = (views == moved.numpy()).all((2, 3, 4)).sum(1)
    if training:
        assert counts.sum() == 400
        assert counts.min() > 20  # of 44
    else:
        assert counts[places.index((1, 1))] == 400


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_images_that_fit_on_the_device_are_gathered_there(decoded, device, monkeypatch):
    here = Images(decoded, batch_size=16, seed=3)
    there = Images(decoded, batch_size=16, seed=3)
    monkeypatch.setattr(images, "has_room", lambda device, size: True)
    strategy = SimpleNamespace(root_device=torch.device(device))
    there.trainer = SimpleNamespace(strategy=strategy, world_size=1, global_rank=0)
    there.setup("fit")
    assert there.held_out.images.data_ptr() == there.train.images.data_ptr()  # one copy for both splits
    loaders = [(data.train_dataloader(), data.val_dataloader()) for data in (here, there)]
    for ours, theirs in zip(*loaders, strict=True):
        for batch, other in zip(ours, theirs, strict=True):
            assert other.pixels.device.type == device
            for part, same in zip(batch, other, strict=True):
                assert (part == same.cpu()).all()


def test_other_processes_read_the_same_batches_ahead(decoded, monkeypatch):
    def epochs(readers: int) -> list[Batch]:
        monkeypatch.setattr(images, "reading_processes", lambda *_: readers)
        data = Images(decoded, batch_size=16, seed=3)
        loader, torch_state = data.train_dataloader(), torch.get_rng_state()
        assert loader.num_workers == readers
        found = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            found += [*loader, *data.val_dataloader()]
        assert torch.equal(torch.get_rng_state(), torch_state)
        return found

    for ours, theirs in zip(epochs(2), epochs(0), strict=True):
        assert ours.pixels.is_contiguous(memory_format=torch.channels_last)
        assert all(torch.equal(*parts) for parts in zip(ours, theirs, strict=True))


def test_thirty_gigabytes_are_opened_and_read_without_growing_memory(tmp_path, monkeypatch):
    """A file of holes. Mapped as a process's own, the system refuses more than there is memory: it counted as damaged."""
    monkeypatch.setattr(kept, "CHECKED", 2**24)
    count = 30 * 2**30 // 12288
    with (tmp_path / "images.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (count, 64, 64, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + count * 12288)
    digests = np.full(count, kept._digest(np.zeros(12288, np.uint8)), np.uint64)
    np.savez(tmp_path / "beside.npz", digests=digests, labels=np.arange(count), skipped=np.zeros(0, np.int64))
    found = kept.kept_in(tmp_path)
    assert found
    split = Decoded(found.images, found.labels, np.arange(100, count), np.arange(100), [], "holes")
    batches = iter(Images(split, 64, seed=1).train_dataloader())
    next(batches)
    before = status("RssAnon")
    for _ in range(20):
        batch = next(batches)
        assert torch.equal(batch.label, batch.index + 100)
        assert not batch.pixels.any()
    assert status("RssAnon") - before < 8  # MB, of 15 that were read


@pytest.mark.parametrize(
    ("device", "gigabytes", "room", "readers"),
    [("cpu", 10, 1e12, 0), ("cpu", 60, 1e12, 4), ("cuda", 10, 1e12, 4), ("cuda", 10, 1e5, 0), ("cpu", 60, 1e5, 0)],
)
def test_others_read_ahead_for_a_gpu_and_of_more_than_memory_holds(monkeypatch, device, gigabytes, room, readers):
    monkeypatch.setattr("os.sysconf", {"SC_PHYS_PAGES": 2**24, "SC_PAGE_SIZE": 4096}.get)  # 64 GB
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    monkeypatch.setattr("shutil.disk_usage", lambda place: SimpleNamespace(free=room))
    assert reading_processes(torch.device(device), int(gigabytes * 2**30), 2**20) == readers


def test_no_epoch_of_one_seed_has_the_order_of_another_seed(decoded):
    """torch's own sampler has seed + epoch: seed 1 would begin where seed 0 goes on."""

    def order(seed: int, epoch: int) -> tuple[int, ...]:
        loader = Images(decoded, batch_size=40, seed=seed).train_dataloader()
        loader.sampler.set_epoch(epoch)
        return tuple(next(iter(loader)).index.tolist())

    orders = {(seed, epoch): order(seed, epoch) for seed in range(4) for epoch in range(4)}
    assert len(set(orders.values())) == 16
    assert orders[1, 2] == order(1, 2)
