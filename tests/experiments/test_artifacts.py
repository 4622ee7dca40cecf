"""Checkpoints out of W&B, against a stand-in for its server."""

from pathlib import Path

import pytest
import wandb

from diffusion_lab.commands.checks import check
from diffusion_lab.commands.sample import sample_checkpoint
from diffusion_lab.errors import UserError
from diffusion_lab.experiments import artifacts, tracking
from diffusion_lab.experiments.runs import Run
from tests.commands.test_edit import written_checkpoint
from tests.conftest import composed


class Api:
    """Knows one artifact, me/frogs/model, whose files are those in `kept`."""

    kept: Path

    def artifact(self, name: str) -> "Api":
        if name not in ("me/frogs/model:best", "me/frogs/model:v0"):
            raise ValueError(f"artifact {name} not found")
        self.digest, self.qualified_name = "abc", "me/frogs/model:v0"
        return self

    def download(self, root: str) -> str:
        for file in self.kept.iterdir():
            Path(root).mkdir(parents=True, exist_ok=True)
            (Path(root) / file.name).write_bytes(file.read_bytes())
        return root


@pytest.fixture
def kept(tmp_path, monkeypatch) -> Path:
    """The folder whose files the server has."""
    monkeypatch.setenv("DIFFUSION_LAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(wandb, "Api", Api)
    monkeypatch.setattr(artifacts, "FETCHED", {})
    Api.kept = tmp_path / "server"
    Api.kept.mkdir()
    return Api.kept


def test_a_checkpoint_is_taken_from_an_artifact_wherever_a_file_is(kept, tmp_path):
    (kept / "best.ckpt").write_text("weights")
    (kept / "MODEL_CARD.md").write_text("# frogs")
    cfg = composed("train", "init_from=wandb:me/frogs/model:best", "metrics.classifier=wandb:me/frogs/model:v0")
    check(cfg)
    assert Path(cfg.init_from).read_text() == "weights"
    assert cfg.metrics.classifier == cfg.init_from
    teacher = composed("train", "teacher=checkpoint", "teacher.checkpoint=wandb:me/frogs/model:best")
    check(teacher)
    assert artifacts.used_in({"teacher": {"checkpoint": teacher.teacher.checkpoint}, "epochs": 3}) == ["me/frogs/model:v0"]
    assert artifacts.used_in({"teacher": {"checkpoint": "another.ckpt"}}) == []


def test_images_are_drawn_from_an_artifact(kept, tmp_path):
    written_checkpoint(kept / "last.ckpt")
    cfg = composed("sample", "checkpoint=wandb:me/frogs/model:best", "count=1", "sampler.steps=1")
    sample_checkpoint(cfg, str(tmp_path / "drawn"))
    assert (tmp_path / "drawn/00000.png").is_file()


def test_what_cannot_be_had_is_one_line(kept):
    with pytest.raises(UserError, match=r"no:best cannot be had from W&B \(artifact no:best not found\): is it "):
        artifacts.fetched("wandb:no:best")
    for count in (0, 2):
        for i in range(count):
            (kept / f"{i}.ckpt").touch()
        with pytest.raises(UserError, match=f"model:best holds {count} checkpoints"):
            artifacts.fetched("wandb:me/frogs/model:best")


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_run_names_the_artifacts_that_it_came_of(kept, tmp_path, mode):
    (kept / "best.ckpt").touch()
    file = artifacts.fetched("wandb:me/frogs/model:best")
    told = []

    class Recorded:
        config: dict = {}  # noqa: RUF012

        def define_metric(self, *_, **__): ...

        def use_artifact(self, name):
            told.append(name)

    config = {"name": "frogs", "choices": {}, "init_from": str(file.resolve())}
    logger = tracking.wandb(Run(tmp_path / "run"), config, mode, "diffusion-lab")
    run = Recorded()
    logger._prepare(run)
    assert told == (["me/frogs/model:v0"] if mode == "online" else [])  # offline, W&B cannot be asked
    assert run.config["used_artifacts"] == ["me/frogs/model:v0"]
