"""ONNX Runtime for browsers: the files of npm's package onnxruntime-web, one version, known by its sum."""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from diffusion_lab.errors import UserError

VERSION = "1.30.0"
NAME = f"onnxruntime-web-{VERSION}.tgz"
SHA512 = (
    "ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca"
    "590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61"
)
WASM = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
WEBGPU = ("ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm")


def runtime_files(cache_dir: str, given: str | None = None) -> Path:
    """A folder with WASM and WEBGPU, which stays.

    Args:
        cache_dir: where it is kept from the first time on.
        given: npm's file; None: npm fetches it.

    Raises:
        UserError: it cannot be had, or is not the version that this was tested with.
    """
    folder = Path(cache_dir).expanduser() / f"onnxruntime-web-{VERSION}"
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".onnxruntime-web") as scratch:
            file = Path(given).expanduser() if given else _fetched(Path(scratch))
            _unpack(file, Path(scratch) / "files")
            if not folder.is_dir():
                (Path(scratch) / "files").rename(folder)
    return folder


def _fetched(folder: Path) -> Path:
    wanted = f"the page needs {NAME} of npm once"
    if not shutil.which("npm"):
        raise UserError(f"{wanted}, and npm is not installed: install it (apt-get install npm), or give format.runtime=FILE")
    command = [
        "npm",
        "pack",
        f"onnxruntime-web@{VERSION}",
        "--silent",
        "--prefer-offline",
        "--pack-destination",
        str(folder),
    ]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        lines = str(error.stderr or error).strip().splitlines()
        raise UserError(f"{wanted}, and npm cannot fetch it ({lines[-1]}): give format.runtime=FILE") from error
    return folder / NAME


def _unpack(file: Path, folder: Path) -> None:
    if not file.is_file():
        raise UserError(f"format.runtime={file} is not a file; it is what `npm pack onnxruntime-web@{VERSION}` leaves")
    with file.open("rb") as content:
        if hashlib.file_digest(content, "sha512").hexdigest() != SHA512:
            raise UserError(f"{file} is not onnxruntime-web {VERSION} as npm has it, or is damaged: fetch it again")
    folder.mkdir()
    with tarfile.open(file) as package:
        for name in (*WASM, *WEBGPU):
            with package.extractfile(f"package/dist/{name}") as content, (folder / name).open("wb") as written:
                shutil.copyfileobj(content, written)
