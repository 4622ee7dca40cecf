"""`sample.py` and `edit.py` with model=pipeline, and the same from Python, on tiny pipelines with random weights."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import diffusion_lab as lab
from diffusion_lab.commands.checks import check
from diffusion_lab.commands.edit import edit_images
from diffusion_lab.commands.evaluate import run_once as evaluate_once
from diffusion_lab.commands.opened import drawing_of, open_model
from diffusion_lab.commands.sample import sample_checkpoint
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.runs import Run
from tests.conftest import composed
from tests.pretrained.conftest import folder_of  # noqa: F401

PROMPTS = "prompt=[a red fox,two boats]"
SECOND = ("model.second_steps=2",)


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    file = tmp_path_factory.mktemp("pictures") / "drawn.png"
    pixels = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)
    return file


def words(folder, *overrides: str) -> list[str]:
    path = f"[{','.join(map(str, folder))}]" if isinstance(folder, tuple) else folder
    return ["model=pipeline", f"model.path={path}", "sampler.steps=2", "accelerator=cpu", *overrides]


def pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file)).astype(int)


def test_prompts_are_drawn_in_turn_and_python_draws_the_same(folder_of, tmp_path):  # noqa: F811
    folder = folder_of("stable_diffusion")
    cfg = composed("sample", *words(folder, PROMPTS, "count=3", "negative_prompt=blurry", "seed=3"))
    sample_checkpoint(cfg, str(tmp_path / "drawn"))
    model = lab.load(folder, accelerator="cpu")
    asked = {"prompt": ["a red fox", "two boats"], "negative_prompt": "blurry", "steps": 2}
    images = model.sample(3, **asked, seed=3)
    assert images.shape == (3, 3, 16, 16)
    for i, image in enumerate((images * 255).round().int().permute(0, 2, 3, 1).numpy()):
        assert np.abs(image - pixels(tmp_path / f"drawn/{i:05d}.png")).max() <= 1
    other = model.sample(3, prompt="two boats", negative_prompt="blurry", steps=2, seed=3)
    assert (other[0] - images[0]).abs().max() > 0.01
    torch.testing.assert_close(other[1], images[1])


def test_a_row_a_prompt_and_a_column_a_scale(folder_of, tmp_path):  # noqa: F811
    file = tmp_path / "prompts.txt"
    file.write_text("a red fox\n\ntwo boats\n")
    settings = (f"prompt={file}", "label=all", "guidance.scale=[1,4]")
    sample_checkpoint(composed("sample", *words(folder_of("stable_diffusion"), *settings)), str(tmp_path / "all"))
    assert len(list((tmp_path / "all/scale_4").glob("*.png"))) == 2
    assert np.abs(pixels(tmp_path / "all/scale_1/00000.png") - pixels(tmp_path / "all/scale_4/00000.png")).max() > 2


@pytest.mark.parametrize(
    ("family", "edit", "settings"),
    [
        ("stable_diffusion", "sdedit", ["edit.strengths=[0.5]", PROMPTS]),
        ("sd3", "sdedit", ["edit.strengths=[0.5]", "prompt=a fox"]),
        ("stable_diffusion", "inpaint", [PROMPTS, "sampler.steps=4"]),
        ("stable_diffusion", "invert", ["sampler=ddim", "sampler.steps=4", "prompt=a fox", "guidance=none"]),
        ("stable_diffusion", "interpolate", ["sampler=ddim", "sampler.steps=4", "edit.columns=3", "count=2"]),
        ("stable_diffusion", "between", ["edit.prompts=[a fox,a boat]", "edit.columns=3"]),
        ("deepfloyd_if", "anagram", ["edit.prompts=[a fox,a boat]", "edit/view=patches"]),
        ("deepfloyd_if", "hybrid", ["edit.prompts=[a fox,a boat]"]),
        (("deepfloyd_if", "deepfloyd_if_ii"), "between", ["edit.prompts=[a fox,a boat]", "edit.columns=2", *SECOND]),
        ("deepfloyd_if_ii", "superres", ["prompt=a fox"]),
    ],
)
def test_edits_by_prompt(folder_of, picture, tmp_path, family, edit, settings):  # noqa: F811
    given = [] if edit in ("anagram", "hybrid", "between") else [f"image=[{picture},{picture}]"]
    folder = folder_of(family) if isinstance(family, str) else tuple(map(folder_of, family))
    cfg = composed("edit", f"edit={edit}", *words(folder), *given, "count=2", *settings)
    edit_images(cfg, str(tmp_path / "edited"))
    said = json.loads((tmp_path / "edited/edit.json").read_text())
    assert said["network_calls"] > 0
    results = sorted((tmp_path / "edited").glob("0*.png"))
    assert results
    assert all(pixels(file).std() > 1 for file in results)


def test_a_hole_in_latents_covers_that_in_pixels(folder_of):  # noqa: F811
    model = lab.load(folder_of("stable_diffusion"), accelerator="cpu")
    image = torch.rand(1, 3, 16, 16)
    edited = model.edit("inpaint", image, prompt="a fox", steps=4, box=[7, 0, 9, 16], sampler="ddim").pixels
    hole = (edited["known"] - edited["input"]).abs().amax((0, 1, 2))
    assert hole[6:10].min() > 0
    assert (edited["result"] - edited["input"]).abs().amax((0, 1, 2))[7:9].min() > 0.01


def test_a_cascade_draws_large_images_that_belong_to_themselves(folder_of, tmp_path):  # noqa: F811
    stages = (folder_of("deepfloyd_if"), folder_of("deepfloyd_if_ii"))
    for count, batch in ((3, 2), (2, 1)):
        settings = (PROMPTS, f"count={count}", f"batch_size={batch}", "model.second_steps=2", "gif=true")
        sample_checkpoint(composed("sample", *words(stages, *settings)), str(tmp_path / f"of_{count}"))
    assert pixels(tmp_path / "of_3/00001.png").shape == (32, 32, 3)
    assert np.abs(pixels(tmp_path / "of_3/00001.png") - pixels(tmp_path / "of_2/00001.png")).max() <= 1
    with Image.open(tmp_path / "of_3/trajectory.gif") as gif:
        assert gif.n_frames >= 2


OTHER = ("sampler/threshold=dynamic", "sampler.threshold.most=1.25")


@pytest.mark.parametrize(("asked", "most"), [((), 1.0), (OTHER, 1.25)], ids=["its own", "the user's"])
def test_each_stage_clips_as_its_own_scheduler_says(folder_of, tmp_path, asked, most):  # noqa: F811
    second = shutil.copytree(folder_of("deepfloyd_if_ii"), tmp_path / "second")
    file = second / "scheduler" / "scheduler_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "sample_max_value": 1.0}))
    cfg = composed("sample", *words((folder_of("deepfloyd_if"), second), PROMPTS, *SECOND, *asked))
    cascade = drawing_of(*open_model(cfg), cfg).sampler
    first = cascade.sampler.sampler.keywords["threshold"]
    second = cascade.way.get("threshold", first)
    assert (first.keywords["most"], second.keywords["most"]) == (1.25 if asked else 1.5, most)


def test_an_anagram_of_a_cascade_is_one_image_seen_in_two_ways(folder_of, tmp_path):  # noqa: F811
    stages = (folder_of("deepfloyd_if"), folder_of("deepfloyd_if_ii"))
    settings = ("count=1", "edit.prompts=[a fox,a boat]", "model.second_steps=3")
    edit_images(composed("edit", "edit=anagram", *words(stages, *settings)), str(tmp_path))
    said = json.loads((tmp_path / "edit.json").read_text())
    assert said["network_calls"] == 2 * 2 * (2 + 3)  # two views, with a prompt and without, in both stages
    first, second = sorted(tmp_path.glob("0*.png"))
    assert pixels(first).shape == (32, 32, 3)
    assert np.array_equal(pixels(first), pixels(second)[::-1, ::-1])


def test_classes_are_asked_for_by_any_of_their_names(folder_of):  # noqa: F811
    model = lab.load(folder_of("dit"), accelerator="cpu")
    drawn = [model.sample(1, label=label, steps=2) for label in (1, "goldfish", "Carassius auratus")]
    assert torch.equal(drawn[0], drawn[1])
    assert torch.equal(drawn[0], drawn[2])


MISTAKES = {  # what was asked: what is said
    ("sample", "stable_diffusion", ""): 'prompt="..." is missing, which Stable Diffusion reads',
    ("sample", "ddpm", "prompt=fox"): "DDPM at .* reads no text",
    ("sample", "dit", "prompt=fox"): "reads no text; it has classes: take label=",
    ("sample", "dit", "label=fish"): "label=fish is not a class",
    ("sample", "ddpm", "label=3"): "label=3 is not a class",
    ("sample", "stable_diffusion", "prompt=fox label=3"): "label=3 is no row of the prompts .0 to 0",
    ("sample", "stable_diffusion", f"prompt={'fox' * 100}"): "is 201 tokens long, and Stable Diffusion reads 77",
    ("sample", "stable_diffusion", "prompt=none.txt"): "no text file that can be read",
    ("sample", "stable_diffusion", "prompt=5"): "prompt=5 must be text: a number wants quotes in quotes, prompt=\"'5'\"",
    ("sample", "stable_diffusion", "prompt=fox model.image_size=50"): "must be a multiple of 16",
    ("sample", "ddpm", "model.image_size=64"): "draws its own 16 px only",
    ("sample", "deepfloyd_if_ii", "prompt=fox"): "enlarges images: give both stages",
    ("edit", "stable_diffusion", "edit=anagram edit.prompts=[a,b]"): "draws latents",
    ("edit", "sd3", "edit=hybrid edit.prompts=[a,b]"): "draws latents",
    ("edit", "stable_diffusion", "edit=superres prompt=fox"): "draws latents",
    ("edit", "stable_diffusion", "edit=sdedit prompt=fox"): "image=FILE is missing",
    ("edit", "stable_diffusion", "edit=invert prompt=fox sampler=ddpm"): "take sampler=ddim",
}


@pytest.mark.parametrize(("asked", "message"), MISTAKES.items())
def test_a_mistake_is_one_line_before_weights_are_read(folder_of, tmp_path, capsys, monkeypatch, asked, message):  # noqa: F811
    program, family, settings = asked
    monkeypatch.setattr("diffusion_lab.pretrained.pipeline.Pipeline._load", lambda *_: pytest.fail("weights were read"))
    work = {"sample": sample_checkpoint, "edit": edit_images}[program]
    with pytest.raises(SystemExit):
        work(composed(program, *words(folder_of(family), *settings.split())), str(tmp_path / "made"))
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(message, said), said
    assert not Run(tmp_path / "made").folder.exists()


def test_a_prompt_wants_a_model_that_reads(tmp_path):
    with pytest.raises(SystemExit):
        sample_checkpoint(composed("sample", "checkpoint=some.ckpt", "prompt=a fox"), str(tmp_path))
    with pytest.raises(UserError, match=r"model\.path=FOLDER is missing"):
        check(composed("sample", "model=pipeline"))


def test_it_is_scored_against_a_folder(folder_of, tmp_path, capsys):  # noqa: F811
    for i in range(8):
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (20, 20, 3), dtype=np.uint8)).save(tmp_path / f"{i}.png")
    asked = (
        PROMPTS,
        "data=folder",
        f"data.root={tmp_path}",
        "metrics=standard",
        "metrics.samples=4",
        "metrics.batch_size=2",
    )
    cfg = composed(
        "evaluate", *words(folder_of("stable_diffusion"), *asked, "metrics/figures=[errors]", "objective=noise_loss")
    )
    run = Run(tmp_path / "scored")
    results = evaluate_once(cfg, run)
    assert results["noise_loss"] > 0
    assert run.results()["status"] == "finished"
    assert run.final_grid.is_file()
    with pytest.raises(UserError, match="brings no data to be compared with"):
        evaluate_once(composed("evaluate", *words(folder_of("stable_diffusion"), PROMPTS)), run)
