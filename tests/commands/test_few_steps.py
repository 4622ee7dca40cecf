"""Distilled checkpoints as a user makes and uses them, by tiny runs."""

import json
import re
import time
from pathlib import Path

import pytest
import torch

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.commands.choices import with_choices
from diffusion_lab.commands.edit import edit_images, edit_of
from diffusion_lab.commands.evaluate import evaluate_checkpoint
from diffusion_lab.commands.sample import sample_checkpoint
from diffusion_lab.commands.train import train, training_config
from diffusion_lab.denoiser import Denoiser, ScaledDenoiser
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.hashes import sha256_of
from diffusion_lab.experiments.runs import Run
from tests.commands.test_edit import written_checkpoint
from tests.conftest import composed
from tests.typed import begin_command, kill, type_command

TINY = (
    *("epochs=1", "batch_size=16", "data.max_images=80", "network.widths=[16,16]", "metrics.samples=4", "grid.count=4"),
    *("metrics/figures=[errors]", "objective=image_loss", "logger=csv", "trainer.log_every_n_steps=1"),
)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory) -> Path:
    return run_of(tmp_path_factory.mktemp("teacher") / "run", "guidance=none").last_checkpoint


def run_of(folder: Path, *overrides: str) -> Run:
    train(composed("train", *TINY, *overrides), str(folder), is_multirun=False)
    return Run(folder)


def weights(run: Run) -> dict:
    return torch.load(run.last_checkpoint, weights_only=True)["state_dict"]


@pytest.mark.ci
def test_each_stage_finds_the_one_before(teacher, tmp_path, capsys):
    before = teacher.read_bytes()

    def stage(steps: int) -> Run:
        options = (f"teacher.checkpoint={teacher}", "teacher.scale=1.5", f"sampler.steps={steps}", "seed=3")
        return run_of(tmp_path / f"steps_{steps}", "experiment=progressive_distillation", *options)

    four, two = stage(4), stage(2)
    for run, taught_by, scale in ((four, teacher, 1.5), (two, four.last_checkpoint, 1.0)):
        config = load_checkpoint(run.last_checkpoint).config
        assert config["teacher"]["checkpoint"] == config["init_from"] == str(taught_by)
        assert config["contents"]["teacher"] == sha256_of(taught_by)
        assert config["teacher"]["scale"] == scale
        assert weights(run).keys() == {f"model.{key}" for key in load_checkpoint(teacher).weights}
        assert config["sampler"]["steps"] == config["times"]["steps"]
    assert teacher.read_bytes() == before
    stamp = two.last_checkpoint.stat().st_mtime_ns
    assert stage(2).last_checkpoint.stat().st_mtime_ns == stamp  # finished: nothing is run again
    eight = (*TINY, "experiment=progressive_distillation", f"teacher.checkpoint={teacher}", "sampler.steps=8", "seed=3")
    first = training_config(composed("train", *eight, "teacher.scale=1.5"), Run(tmp_path / "steps_8"))
    assert first["teacher"]["checkpoint"] == str(teacher)  # no run of sixteen is there
    other = training_config(composed("train", *eight, "sampler.steps=2", "epochs=2"), Run(tmp_path / "other"))
    assert other["teacher"]["checkpoint"] == str(teacher)  # the run of four is of another training
    assert other["contents"]["first_scale"] == 1.0
    scaled = training_config(composed("train", *eight, "sampler.steps=2", "teacher.scale=3"), Run(tmp_path / "other"))
    assert scaled["teacher"]["checkpoint"] == str(teacher)  # the run of four learned from another scale
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd/config.yaml").write_text("sampler: 5")
    four.results_file.unlink()
    with pytest.raises(SystemExit):
        stage(2)
    assert "the stage of 4 steps before, " in capsys.readouterr().err


def test_a_student_takes_the_scale_of_guidance_at_one_call(teacher, tmp_path, capsys):
    run = run_of(tmp_path / "run", "experiment=guidance_distillation", f"teacher.checkpoint={teacher}", "sampler.steps=1")
    assert isinstance(load_checkpoint(run.last_checkpoint).model(Denoiser), ScaledDenoiser)
    asked = (f"checkpoint={run.last_checkpoint}", "label=[0,1]", "count=2", "guidance.scale=[1,4]")
    sample_checkpoint(composed("sample", *asked), str(tmp_path / "drawn"))
    assert len(list((tmp_path / "drawn").rglob("0*.png"))) == 4
    with pytest.raises(SystemExit):
        sample_checkpoint(composed("sample", *asked[:1], "guidance.scale=7"), str(tmp_path / "not"))
    assert "guidance.scale=7 is none of those that were distilled, 1 to 4" in capsys.readouterr().err


@pytest.fixture(scope="module")
def few(tmp_path_factory) -> dict[str, Path]:
    """A checkpoint of each kind, not trained: what is taken from it, not how good it is."""
    folder = tmp_path_factory.mktemp("few")
    given = {"consistency": (), "progressive_distillation": ("teacher.checkpoint=x", "sampler.steps=4")}
    return {name: written_checkpoint(folder / f"{name}.ckpt", f"experiment={name}", *more) for name, more in given.items()}


@pytest.mark.parametrize(("name", "calls"), [("consistency", 2), ("progressive_distillation", 4)])
def test_a_checkpoint_brings_its_sampler_and_its_calls(few, name, calls, tmp_path):
    small = (f"checkpoint={few[name]}", "metrics.samples=4", "metrics.batch_size=4")
    evaluate_checkpoint(composed("evaluate", *small), str(tmp_path / "run"), is_multirun=False)
    assert Run(tmp_path / "run").results()["network_calls"] == calls
    sample_checkpoint(composed("sample", f"checkpoint={few[name]}", "count=2", "gif=true"), str(tmp_path / "drawn"))
    assert len(list((tmp_path / "drawn").glob("0*.png"))) == 2


REFUSED = {  # and what to do
    "consistency": {
        "invert": "take the one that it was tuned from",
        "interpolate": "take the one that it was tuned from",
        "inpaint": "take sampler=consistency sampler.steps=8",
    },
    "progressive_distillation": {
        **dict.fromkeys(("denoise", "denoise_once", "sdedit"), "take another checkpoint"),
        **dict.fromkeys(("inpaint", "invert", "interpolate"), "take sampler=ddim sampler.steps=4"),
    },
}


@pytest.mark.parametrize("name", REFUSED)
def test_edits_work_or_say_why_not(few, name):
    for edit in (*REFUSED[name], "superres"):
        words, refusal = (f"edit={edit}", f"checkpoint={few[name]}", "count=2"), REFUSED[name].get(edit)
        if refusal is None:
            edit_of(*opened(*words))
            continue
        with pytest.raises(UserError, match=re.escape(refusal)):
            edit_of(*opened(*words))
        if "sampler=" in refusal:
            edit_of(*opened(*words, *refusal.split()[1:]))  # what it says helps


def opened(*words: str) -> tuple:
    """The config of an edit, and that of the checkpoint with what it says in its place."""
    cfg = composed("edit", *words)
    return cfg, with_choices(load_checkpoint(cfg.checkpoint).config, cfg)


def test_a_hole_is_filled_by_consistent_calls(few, tmp_path):
    words = ("edit=inpaint", f"checkpoint={few['consistency']}", "count=1", "sampler=consistency", "sampler.steps=3")
    edit_images(composed("edit", *words), str(tmp_path))
    assert json.loads((tmp_path / "edit.json").read_text())["network_calls"] == 3


@pytest.mark.slow
def test_tuning_killed_and_typed_again_ends_as_if_nothing_had_happened(teacher, tmp_path):
    words = (*TINY, "epochs=4", "experiment=consistency", f"init_from={teacher}", "teacher=checkpoint")
    words += (f"teacher.checkpoint={teacher}", "teacher.scale=2", "hydra.run.dir=run")
    folders = [tmp_path / name for name in ("unbroken", "killed")]
    for folder in folders:
        folder.mkdir()
    whole, killed = (Run(folder / "run") for folder in folders)
    assert type_command(folders[0], "train", *words).returncode == 0
    with begin_command(folders[1], "train", *words) as (process, _):
        while not killed.last_checkpoint.is_file():
            assert process.is_alive()
            time.sleep(0.01)
        kill(process)
    assert not killed.finished()
    again = type_command(folders[1], "train", *words)
    assert again.returncode == 0, again.stderr
    assert "going on from the checkpoint" in again.stdout + again.stderr
    ours, theirs = weights(killed), weights(whole)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert killed.results()["image_loss"] == whole.results()["image_loss"]
