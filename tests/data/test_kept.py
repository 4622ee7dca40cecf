"""Arrays on disk while they grow: killed, looked for by two processes, damaged, and never all in memory."""

import signal
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from diffusion_lab.data import cache, kept
from diffusion_lab.data.cache import decode
from diffusion_lab.data.sources import Source
from tests.conftest import PROJECT

COUNT = 200


class Drawn:
    """Items that note in a file which of them are decoded; one of them may kill the process."""

    def __init__(self, notes: Path, deadly: int | None = None, count: int = COUNT):
        self.notes, self.deadly, self.count = notes, deadly, count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        if i == self.deadly:
            import os

            os.kill(os.getpid(), signal.SIGKILL)
        with self.notes.open("a") as file:
            file.write(f"{i}\n")
        return Image.fromarray(np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)), i % 7


def drawn(notes: Path, deadly: int | None = None) -> Source:
    order = np.arange(COUNT)
    return Source(Drawn(notes, deadly), str, [str(i) for i in range(7)], order[20:], order[:20], "drawn")


def decoded(notes: Path, place: Path):
    return decode(drawn(notes), "drawn", 8, 3, str(place))


def in_a_process(notes: Path, place: Path, deadly: int | None = None) -> subprocess.Popen:
    code = f"""
    from pathlib import Path
    from diffusion_lab.data import kept
    from diffusion_lab.data.cache import decode
    from tests.data.test_kept import drawn
    kept.SAVED_EVERY_S = -1
    decode(drawn(Path({str(notes)!r}), {deadly}), "drawn", 8, 3, {str(place)!r})
    """
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=PROJECT)


@pytest.fixture
def whole(tmp_path):
    """The images, decoded in one go elsewhere."""
    return decoded(tmp_path / "notes of the whole", tmp_path / "elsewhere")


def is_same(ours, theirs) -> bool:
    return all(
        np.array_equal(getattr(ours, part), getattr(theirs, part)) for part in ("images", "labels", "train", "held_out")
    )


def test_a_killed_decoding_goes_on_from_where_it_was(tmp_path, whole):
    notes, place = tmp_path / "notes", tmp_path / "cache"
    assert in_a_process(notes, place, deadly=150).wait() == -signal.SIGKILL
    assert not (place / whole.key).exists()
    before = len(notes.read_text().split())
    found = decoded(notes, place)
    again = len(notes.read_text().split()) - before
    assert COUNT - 150 <= again <= COUNT - 150 + 8 * cache.os.cpu_count() + 1  # what was ahead of its turn is lost
    assert is_same(found, whole)
    assert [path.name for path in place.iterdir()] == [whole.key]


@pytest.mark.parametrize("name", ["images.npy", "beside.npz"])
def test_a_damaged_part_is_not_gone_on_with(tmp_path, whole, name):
    notes, place = tmp_path / "notes", tmp_path / "cache"
    in_a_process(notes, place, deadly=150).wait()
    [part] = [folder for folder in place.iterdir() if folder.is_dir()]
    content = bytearray((part / name).read_bytes())
    content[len(content) // 2] ^= 4
    (part / name).write_bytes(content)
    assert is_same(decoded(notes, place), whole)


def test_what_is_counted_is_there_also_where_a_kill_came_between(tmp_path, whole, monkeypatch):
    """The array has been saved, and what counts its images has not."""
    notes, place = tmp_path / "notes", tmp_path / "cache"
    in_a_process(notes, place, deadly=150).wait()
    [part] = [folder for folder in place.iterdir() if folder.is_dir()]
    older = {key: values[:100] for key, values in np.load(part / "beside.npz").items()}
    np.savez(part / "beside.npz", **older)
    before = len(notes.read_text().split())
    assert is_same(decoded(notes, place), whole)
    assert len(notes.read_text().split()) - before == COUNT - 100


def test_of_two_processes_one_decodes(tmp_path, whole):
    notes, place = tmp_path / "notes", tmp_path / "cache"
    both = [in_a_process(notes, place) for _ in range(2)]
    assert [process.wait() for process in both] == [0, 0]
    assert sorted(map(int, notes.read_text().split())) == list(range(COUNT))
    assert is_same(decoded(notes, place), whole)


def test_decoding_never_holds_all_images(tmp_path, monkeypatch):
    """128 MB of them, which were all held, twice, until the last was decoded."""
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    flat = Image.new("L", (256, 256))
    items = type("Flat", (), {"__len__": lambda self: 2000, "__getitem__": lambda self, i: (flat, -1)})()
    source = Source(items, str, [], np.arange(1, 2000), np.arange(1), "flat")
    tracemalloc.start()
    images = decode(source, "flat", 256, 1, str(tmp_path)).images
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert images.nbytes == 2000 * 2**16
    assert peak < 12e6


def test_of_a_large_array_a_part_is_looked_at_each_time_another(tmp_path, whole, monkeypatch):
    monkeypatch.setattr(kept, "STRETCH", 20 * whole.images[0].nbytes)
    monkeypatch.setattr(kept, "CHECKED", 60 * whole.images[0].nbytes)
    looked_at, digest = [], kept._digest
    monkeypatch.setattr(kept, "_digest", lambda image: looked_at.append(image[0, 0].tobytes()) or digest(image))
    for _ in range(20):
        looked_at.append(None)
        assert kept.kept_in(tmp_path / "elsewhere" / whole.key)
    assert looked_at.count(None) == 20
    assert len(looked_at) == 20 * (1 + 60)
    assert len(set(looked_at)) > 180


def test_the_file_is_as_numpy_writes_it(tmp_path, whole):
    np.save(tmp_path / "again.npy", whole.images)
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "elsewhere" / whole.key / "images.npy").read_bytes()
