"""Folders of images as people and attackers have them."""

import io
import os
import shutil
from pathlib import Path
from random import Random

import numpy as np
from PIL import Image

from diffusion_lab.data.cache import decode
from diffusion_lab.data.sources import folder
from diffusion_lab.torture.trial import Outcome, tried

MODES = ("RGB", "L", "RGBA", "P", "1", "CMYK", "I;16", "LA")
NAMES = ("a.jpg", "b.png", "c.webp", "d.bmp", "[/b].png", "ä ö.jpg", "-rf.png", "x" * 200 + ".png", "e.JPG", "${seed}.png")
ODD = (
    *("empty", "text", "cut", "flipped", "fifo", "dangling", "loop", "folder"),
    *("bytes", "other", "unreadable", "huge", "copy"),
)


def try_one(random: Random) -> Outcome:
    """Decode a folder of up to a dozen files, some of them odd."""
    odd = random.sample(ODD, random.choice((0, 1, 1, 2, 3)))
    skip, classes = random.random() < 0.5, random.random() < 0.3
    return tried(
        f"{'+'.join(odd) or 'sound'} skip={skip} classes={classes}", lambda at: _decode(at, random, odd, skip, classes)
    )


def _decode(at: Path, random: Random, odd: list[str], skip: bool, classes: bool) -> None:
    root = at / "images"
    for i in range(random.choice((0, 1, 2, 3, 8))):
        file = root / (random.choice(("one", "two")) if classes else ".") / f"{i}{random.choice(NAMES)}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(_image(random))
    root.mkdir(exist_ok=True)
    for kind in odd:
        _add(root, kind, random)
    on_error = "skip" if skip else "raise"
    decoded = decode(folder(str(root), 3), "torture", 8, 3, str(at / "cache"), on_error=on_error)
    assert not set(decoded.train) & set(decoded.held_out)
    assert decoded.images.shape[1:] == (8, 8, 3)


def _image(random: Random) -> bytes:
    size = (random.choice((1, 7, 40)), random.choice((1, 9, 64)))
    pixels = np.random.default_rng(random.getrandbits(32)).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image, mode = Image.fromarray(pixels), random.choice(MODES)
    image = image.convert("L").convert(mode) if mode == "I;16" else image.convert("RGBA" if mode == "LA" else mode)
    written = io.BytesIO()
    image.save(written, "TIFF" if mode == "CMYK" else "PNG")
    return written.getvalue()


def _add(root: Path, kind: str, random: Random) -> None:
    whole = _image(random)
    file = root / f"{kind}.png"
    match kind:
        case "empty":
            file.write_bytes(b"")
        case "text":
            file.write_text("this is no image")
        case "cut":
            file.write_bytes(whole[: len(whole) // 2])
        case "flipped":
            file.write_bytes(flipped(whole, random))
        case "fifo":
            os.mkfifo(file)
        case "dangling":
            file.symlink_to(root / "nowhere")
        case "loop":
            (root / "again").symlink_to(root)
        case "folder":
            file.mkdir()
        case "bytes":
            Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe.png")).write_bytes(whole)
        case "other":
            (root / "other.gif").write_bytes(b"GIF89a")
        case "unreadable":
            file.write_bytes(whole)
            file.chmod(0)
        case "huge":  # in its header only
            header = bytearray(whole)
            header[16:24] = (60000).to_bytes(4, "big") * 2
            file.write_bytes(header)
        case "copy":
            file.write_bytes(whole)
            shutil.copyfile(file, root / "copy2.png")


def flipped(content: bytes, random: Random) -> bytes:
    """With one bit turned."""
    if not content:
        return content
    changed = bytearray(content)
    changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)
