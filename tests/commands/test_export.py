"""`export.py`: what it writes and says, and mistakes in one line."""

import re
import time
from dataclasses import replace

import pytest

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.commands.export import export_checkpoint
from diffusion_lab.commands.rounding import cost_of_rounding
from diffusion_lab.denoiser import DenoiserAround, Prediction
from diffusion_lab.experiments.hashes import config_hash
from diffusion_lab.experiments.runs import Run
from diffusion_lab.export.card import card
from diffusion_lab.export.subject import Exported, opened
from tests.commands.test_edit import written_checkpoint
from tests.conftest import composed


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return written_checkpoint(tmp_path_factory.mktemp("checkpoint") / "untrained.ckpt")


def test_a_file_and_its_card_are_written_and_named(checkpoint, tmp_path, capsys):
    export_checkpoint(composed("export", "format=safetensors", f"checkpoint={checkpoint}"), str(tmp_path / "exported"))
    assert {file.name for file in (tmp_path / "exported").iterdir()} == {"model.safetensors", "MODEL_CARD.md"}
    said = (tmp_path / "exported/MODEL_CARD.md").read_text()
    assert "mnist_5k. Licence: CC BY-SA 3.0" in said
    assert "not the last checkpoint of a finished run" in said
    printed = capsys.readouterr().out
    assert "exported/model.safetensors" in printed
    assert 'lab.load("model.safetensors")' in printed


def test_the_card_has_the_figures_of_the_run_that_left_the_checkpoint(tmp_path):
    run = Run(tmp_path / "run")
    written_checkpoint(tmp_path / "last.ckpt")
    config = load_checkpoint(tmp_path / "last.ckpt").config
    results = {"kid": 0.125, "samples": 24, "real_images": 32, "network_calls": 3, "weights": "averaged", "protocol": "p"}
    results |= {"feature_extractor": "efficientnet_lite0", "extractor_resolution": 64, "config_hash": None}
    run.begin(config)
    run.checkpoints.mkdir()
    (tmp_path / "last.ckpt").rename(run.last_checkpoint)
    run.finish(results | {"config_hash": config_hash(config)})
    exported = Exported(tmp_path / "model.onnx", "use(it)")
    said = card(opened(load_checkpoint(run.last_checkpoint)), exported)
    assert "| KID | 0.1250 |" in said
    assert "24 generated ones, 3 network calls each; features of efficientnet_lite0 at 64 px" in said
    run.last_checkpoint.rename(run.checkpoints / "best.ckpt")  # whose figures those are not
    assert "0.1250" not in card(opened(load_checkpoint(run.checkpoints / "best.ckpt")), exported)


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"epochs": 3}, ", 3 epochs."),
        ({"epochs": None, "minutes": 10}, ", 10 minutes."),
        ({"epochs": None, "steps": 5000, "minutes": 1.5}, ", 5,000 steps or 1.5 minutes."),
    ],
)
def test_the_card_says_how_long_was_trained_and_what_the_images_are_called(checkpoint, tmp_path, budget, said):
    loaded = load_checkpoint(checkpoint)
    data = {**loaded.config["data"], "name": "folder", "root": str(tmp_path / "my roses"), "max_images": None}
    config = {**loaded.config, "data": data, "name": "folder", **budget}
    text = card(opened(replace(loaded, config=config)), Exported(tmp_path / "model.onnx", "use(it)"))
    assert text.startswith("# my roses\n")
    assert f"my roses{said}" in text
    assert "None" not in text.partition("## Figures")[0]
    named = {**config, "name": "mine"}
    assert card(opened(replace(loaded, config=named)), Exported(tmp_path / "x", "")).startswith("# mine\n")


def test_an_export_is_an_artifact_of_wandb_with_its_card(checkpoint, tmp_path, monkeypatch):
    """What is recorded offline, for an upload later."""
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "staged"))
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    sent = []
    log = wandb.Run.log_artifact
    monkeypatch.setattr(
        wandb.Run, "log_artifact", lambda run, artifact: sent.append((run.job_type, artifact)) or log(run, artifact)
    )
    words = ("format=safetensors", f"checkpoint={checkpoint}", "logger=wandb")
    export_checkpoint(composed("export", *words), str(tmp_path / "page"))
    [(job, artifact)] = sent
    assert (job, artifact.name, artifact.type) == ("export", "mnist_5k-safetensors", "model")
    assert set(artifact.manifest.entries) == {"model.safetensors", "MODEL_CARD.md"}
    assert artifact.metadata["choices"]["network"] == "unet"
    [record] = (tmp_path / "tracked/page/wandb").glob("offline-run-*/run-*.wandb")
    until = time.monotonic() + 30  # another process writes it, which may be after all is said and done
    while b"MODEL_CARD.md" not in record.read_bytes() and time.monotonic() < until:
        time.sleep(0.1)
    assert b"MODEL_CARD.md" in record.read_bytes()
    assert {file.name for file in (tmp_path / "page").iterdir()} == {"model.safetensors", "MODEL_CARD.md"}


def test_the_cost_of_rounding_is_the_kid_of_both(checkpoint):
    """By an extractor of two features, for which a model that draws grey is far off, and the model itself not at all."""
    subject = opened(load_checkpoint(checkpoint))
    subject.config["metrics"]["extractor"] = {"_target_": "tests.metrics.scorings.Means"}
    kids = {}
    for name, rounded in (("same", subject.denoiser), ("grey", Grey(subject.denoiser))):
        said = cost_of_rounding(subject, rounded, 8)
        kids[name] = [float(kid) for kid in re.findall(r"KID (-?[\d.]+) ±.* and (-?[\d.]+) ±", said)[0]]
        assert "8 images of each, of the same noise, 4 network calls each, against 20 held-out ones" in said
    assert kids["same"][0] == kids["same"][1] == kids["grey"][1]
    assert kids["grey"][0] != kids["grey"][1]


class Grey(DenoiserAround):
    def forward(self, noisy, time, label=None):
        image, noise, _ = self.denoiser(noisy, time, label)
        return Prediction(0 * image, noise)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["format=safetensors"], "checkpoint=FILE is missing"),
        (["format=safetensors", "checkpoint=nowhere.ckpt"], "nowhere.ckpt is not a file"),
        (["format=safetensors", "checkpoint=FILE", "open=true"], "open=true opens a page: take format=web"),
        (["format=safetensors", "checkpoint=FILE", "open=3"], "open=3 must be true or false"),
        (["format=onnx", "checkpoint=FILE", "format.quantise=int4"], "format.quantise=int4 must be one of fp16, int8"),
        (["format=safetensors", "checkpoint=FILE", "logger=tensorboard"], "only W&B keeps files: take logger=wandb"),
        (["format=web", "checkpoint=FILE", "format.runtime=nowhere.tgz"], "format.runtime=nowhere.tgz is not a file"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(checkpoint, tmp_path, capsys, overrides, said):
    words = [word.replace("=FILE", f"={checkpoint}") for word in overrides]
    with pytest.raises(SystemExit):
        export_checkpoint(composed("export", *words, *_own_cache(words, tmp_path)), str(tmp_path / "exported"))
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("*exported*"))


def _own_cache(words: list[str], folder) -> list[str]:
    return [f"format.cache_dir={folder}/cache"] if "format=web" in words else []
