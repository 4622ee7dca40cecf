"""What a processor does, a GPU does too: the same command trains, draws and scores there. `make gpu` runs these tests."""

import time

import numpy as np
import pytest
from PIL import Image

from diffusion_lab.experiments.runs import Run
from diffusion_lab.pretrained.tiny import save
from tests.conftest import TINY, UNSCORED
from tests.typed import begin_command, kill, type_command

pytestmark = pytest.mark.gpu

of_one_run = pytest.mark.xdist_group("trained")  # by one process: it is trained once
QUIET = ("logger=csv", "rehearsal=false")
DIGITS = ("epochs=8", "data.max_images=1000", "metrics.samples=100", "grid.every_n_epochs=99", *QUIET)
PRESETS = {  # and what keeps their first steps short
    "reference": [],
    "keras_ddim_flowers": [],
    "ddpm_cifar10": ["data.image_size=32"],
    "improved_ddpm_cifar10": ["data.image_size=32", "schedule.betas.steps=100", "variance.steps=100"],
    "edm_cifar10": ["data.image_size=32"],
    "dit_folder": [],
    "large": [],
    "medium": ["gradient_checkpointing=true", "gradient_clip=1.0"],
    "small": ["accumulate=2", "trainer.precision=32-true"],
    "photos": ["trainer.precision=16-mixed", "gradient_clip=1.0", "data.image_size=32"],
}


def typed(folder, script: str, *words: str):
    """A command that must succeed."""
    result = type_command(folder, script, *words, timeout=400)
    assert result.returncode == 0, result.stdout + result.stderr
    return result


def pictures(folder) -> np.ndarray:
    """(N, H, W), of what sample.py wrote."""
    return np.stack([np.asarray(Image.open(file)).astype(int) for file in sorted(folder.glob("0*.png"))])


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Run:
    folder = tmp_path_factory.mktemp("trained")
    typed(folder, "train", *DIGITS, "hydra.run.dir=run")
    return Run(folder / "run")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Forty small pictures in two classes."""
    folder = tmp_path_factory.mktemp("photographs")
    values = np.random.default_rng(0).integers(0, 256, (40, 6, 6, 3), dtype=np.uint8)
    for i, each in enumerate(values):
        file = folder / f"class_{i % 2}" / f"{i}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(each).resize((72, 72)).save(file)
    return folder


@of_one_run
def test_bf16_is_chosen_and_the_network_learns(trained):
    """bf16, compiled with CUDA graphs, the images on the GPU: all chosen by themselves."""
    results = trained.results()
    assert results["precision"] == "bf16-mixed"
    assert results["noise_loss"] < 0.6


@of_one_run
def test_images_are_those_of_the_processor(trained, tmp_path):
    """Whatever the batch, but for rounding: the largest difference of a value of 255 is told."""
    asked = (f"checkpoint={trained.last_checkpoint}", "count=9", "sampler.steps=8")
    for name, *more in (
        ("processor", "accelerator=cpu", "precision=32-true"),
        ("threes", "precision=32-true", "batch_size=3"),
        ("nines", "precision=32-true", "batch_size=9"),
        ("fast", "precision=bf16-mixed", "batch_size=9"),
    ):
        typed(tmp_path, "sample", *asked, *more, f"hydra.run.dir={name}")
    processor, threes, nines, fast = (pictures(tmp_path / name) for name in ("processor", "threes", "nines", "fast"))
    far = {"batches": abs(threes - nines), "processor": abs(processor - nines), "bf16": abs(fast - nines)}
    assert nines.std() > 40
    print({name: (int(each.max()), round(float(each.mean()), 3)) for name, each in far.items()})
    assert far["batches"].mean() < 0.2
    assert far["processor"].mean() < 0.5
    assert far["bf16"].mean() < 4


@of_one_run
def test_figures_are_those_of_the_processor(trained, tmp_path):
    found = []
    for name, *more in (("cpu", "accelerator=cpu", "precision=32-true"), ("gpu", "precision=32-true"), ("bf16",)):
        figures = "metrics.samples=60"
        typed(tmp_path, "evaluate", f"checkpoint={trained.last_checkpoint}", figures, *more, f"hydra.run.dir={name}")
        found.append(Run(tmp_path / name).results())
    cpu, gpu, bf16 = found
    keys = [key for key in ("noise_loss", "image_loss", "kid", "fid") if key in cpu]
    print({key: [each[key] for each in found] for key in keys})
    for key in keys:
        assert gpu[key] == pytest.approx(cpu[key], rel=5e-3, abs=2e-3), key
        assert bf16[key] == pytest.approx(cpu[key], rel=5e-2, abs=1e-2), key


@of_one_run
def test_a_killed_training_ends_as_if_never_killed(trained, tmp_path):
    asked = (*DIGITS, "hydra.run.dir=run")
    with begin_command(tmp_path, "train", *asked) as (process, _):
        while process.is_alive() and not (tmp_path / "run/checkpoints/last.ckpt").is_file():
            time.sleep(0.01)
        kill(process)
    assert not Run(tmp_path / "run").results()
    said = typed(tmp_path, "train", *asked)
    assert "resum" in said.stdout + said.stderr or "goes on" in said.stdout + said.stderr
    ours, theirs = Run(tmp_path / "run").results(), trained.results()
    print({key: (ours[key], theirs[key]) for key in ("noise_loss", "image_loss", "kid")})
    assert ours["noise_loss"] == pytest.approx(theirs["noise_loss"], rel=1e-2)
    assert ours["steps"] == theirs["steps"]


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_takes_steps(preset, photographs, tmp_path):
    asked = (f"experiment={preset}", "data=folder", f"data.root={photographs}", *PRESETS[preset])
    short = ("steps=6", "batch_size=4", "sampler.steps=3", "metrics.samples=8", "grid.count=4", "grid.every_n_epochs=99")
    extractor = ("metrics/extractor=efficientnet_lite0",)
    typed(tmp_path, "train", *asked, *short, *extractor, *UNSCORED, *QUIET, "hydra.run.dir=run")
    assert Run(tmp_path / "run").results()["steps"] == 6


def test_every_job_of_a_multirun_is_compiled(tmp_path):
    """Ten networks, one after another: more than torch.compile keeps variants of."""
    widths = ",".join(f"[{width},{width}]" for width in range(4, 44, 4))
    tiny = [word for word in TINY if not word.startswith("network.widths")]
    words = (*tiny, *UNSCORED, *QUIET, "network.heads=[0,0]", f"network.widths={widths}", "out=sweep")
    typed(tmp_path, "train", "-m", *words)
    assert len(list(tmp_path.glob("sweep/*/results.json"))) == 10


@pytest.mark.parametrize("family", ["stable_diffusion", "flux"])
def test_a_pretrained_pipeline_draws(family, tmp_path):
    pytest.importorskip("diffusers")
    save(family, str(tmp_path / "tiny"))
    typed(tmp_path, "sample", "model=pipeline", "model.path=tiny", "prompt=a fox", "count=2", "sampler.steps=3", "out=drawn")
    assert pictures(tmp_path / "drawn").std() > 0
