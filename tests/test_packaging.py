"""The wheel has all that commands need, and works from an empty environment in any folder; own conf/ are found."""

import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.conftest import PROJECT, TINY


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder, build = tmp_path_factory.mktemp("wheel"), tmp_path_factory.mktemp("build")
    source = build / "source"
    copied = ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "conf", "src")
    source.mkdir()
    for name in copied:
        subprocess.run(["cp", "-r", str(PROJECT / name), str(source)], check=True)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder)]
    subprocess.run([*command, str(source)], check=True, capture_output=True, timeout=240)
    return next(folder.glob("*.whl"))


def test_the_wheel_carries_conf_templates_and_plugins(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    conf = {f"diffusion_lab/conf/{file.relative_to(PROJECT / 'conf')}" for file in (PROJECT / "conf").rglob("*.yaml")}
    modules = {
        str(file.relative_to(PROJECT / "src"))
        for package in ("diffusion_lab", "hydra_plugins")
        for file in (PROJECT / "src" / package).rglob("*.py")
    }
    page = {str(file.relative_to(PROJECT / "src")) for file in (PROJECT / "src/diffusion_lab/export/page").iterdir()}
    assert len(page) == 4
    assert conf | modules | page | {"diffusion_lab/reports/report.html.jinja"} <= names


def test_hydra_is_one_that_refuses_hostile_targets():
    """1.3.8 is the first with a list of functions that it does not call."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = next(each for each in map(Requirement, project["dependencies"]) if each.name == "hydra-core")
    assert "1.3.8" in wanted.specifier
    assert not any(older in wanted.specifier for older in ("1.3.7", "1.3.2", "1.2.0"))


@pytest.fixture
def empty_environment(wheel, tmp_path) -> Path:
    """A new environment with the wheel and, from ours, what it depends on; its diffusion-lab."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "env")], check=True)
    python = tmp_path / "env/bin/python"
    own = subprocess.run([python, "-c", "import site; print(site.getsitepackages()[0])"], capture_output=True, text=True)
    site = Path(own.stdout.strip())
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)], check=True)
    ours = next(path for path in sys.path if path.endswith("site-packages"))
    for entry in Path(ours).iterdir():
        if not entry.name.startswith(("__editable__", "diffusion_lab", "pip", "setuptools", "_distutils")):
            target = site / entry.name
            if not target.exists():
                target.symlink_to(entry)
    return tmp_path / "env/bin/diffusion-lab"


def typed(command: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    folder.mkdir(exist_ok=True)
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    words = [str(command), *arguments]
    result = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=own, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result


@pytest.mark.ci
def test_a_run_and_samples_from_the_wheel_alone(empty_environment, tmp_path):
    folder = tmp_path / "elsewhere"
    said = typed(empty_environment, folder, "train", *TINY, "epochs=1", "logger=csv", "hydra.run.dir=run").stdout
    assert "diffusion-lab sample checkpoint=run/checkpoints/last.ckpt" in said
    typed(empty_environment, folder, "sample", "checkpoint=run/checkpoints/last.ckpt", "count=2", "hydra.run.dir=drawn")
    assert len(list((folder / "drawn").glob("0*.png"))) == 2
    assert "train, sample and score" in typed(empty_environment, folder).stdout


def test_an_unknown_command_gets_one_line():
    result = subprocess.run([sys.executable, "-m", "diffusion_lab", "trian"], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("error: trian is not a command; there are train,")
