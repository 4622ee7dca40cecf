"""`edit.py`, and `sample.py` with labels and guidance, on a network that was never trained: what is written, not how good
it looks."""

import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.commands.checks import plain
from diffusion_lab.commands.choices import with_choices
from diffusion_lab.commands.edit import Inputs, _what, edit_images
from diffusion_lab.commands.sample import sample_checkpoint
from diffusion_lab.commands.train import training_config
from diffusion_lab.errors import UserError
from diffusion_lab.experiments.runs import Run
from diffusion_lab.parts import build
from tests.conftest import PROJECT, composed
from tests.networks.test_unet import waken
from tests.typed import type_command

STEPS = 4
EDITS = {  # network calls for each image
    "noise": 0,
    "denoise_blur": 0,
    "denoise_once": 4,
    "denoise": 4 * STEPS,
    "sdedit": 6 * STEPS,
    "inpaint": STEPS,
    "superres": STEPS,
    "invert": 2 * STEPS,
    "interpolate": STEPS + 7 / 2 * STEPS,
    "anagram": 2 * STEPS,
    "hybrid": 2 * STEPS,
    "between": 7 * 2 * STEPS,
}


def written_checkpoint(file, *overrides: str):
    """A checkpoint file of an untrained network."""
    config = plain(composed("train", "network.widths=[16,16]", "data.max_images=100", "guidance=none", *overrides))
    torch.manual_seed(0)
    model = build(config["model"], "model")
    waken(model.network)
    model.space.mean.fill_(0.13)
    model.space.std.fill_(0.31)
    weights = {f"model.{key}": value for key, value in model.state_dict().items()}
    torch.save({"config": config, "state_dict": weights}, file)
    return file


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return written_checkpoint(tmp_path_factory.mktemp("checkpoint") / "untrained.ckpt")


@pytest.fixture
def edit(checkpoint, tmp_path):
    """edit("sdedit", ...): the folder of that edit, by the untrained checkpoint with few network calls."""

    def edited(name: str, *overrides: str, folder: str = "edited"):
        settings = (f"checkpoint={checkpoint}", f"sampler.steps={STEPS}", "count=2", *overrides)
        edit_images(composed("edit", f"edit={name}", *settings), str(tmp_path / folder))
        return tmp_path / folder

    return edited


def pixels(file) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image.convert("L")).astype(int)


@pytest.mark.parametrize("name", EDITS)
def test_every_edit_leaves_inputs_results_and_a_strip(edit, name, capsys):
    folder = edit(name)
    said = json.loads((folder / "edit.json").read_text())
    assert said["network_calls"] == EDITS[name]
    assert all(np.isfinite(values).all() for values in said["figures"].values())
    images = sorted(folder.glob("00*.png"))
    with Image.open(folder / "strip.png") as strip:
        columns = len(images) // (1 if name == "interpolate" else 2)
        assert columns >= 2
        assert strip.width > 100 * columns
    assert all(pixels(image).shape == (28, 28) for image in images)
    printed = capsys.readouterr().out
    assert printed.startswith(f"{name} of 2 images")
    assert f": {EDITS[name]:g} network calls each" in printed
    assert str(folder / "strip.png") in printed
    assert {path.relative_to(PROJECT / "conf/edit").stem for path in (PROJECT / "conf/edit").glob("*.yaml")} == {*EDITS}


def test_inpainting_says_how_it_goes_back_and_forth():
    for words, said in ((("edit=inpaint",), "with repaint, 100 steps"), (("edit=inpaint", "sampler=ddpm"), "with ddpm, ")):
        cfg = composed("edit", "checkpoint=x", *words)
        assert said in _what(cfg, {**plain(cfg), "guidance": {"scale": 1}}, Inputs(torch.zeros(1), None, ["a"]), 5.0)


def test_any_picture_will_do(edit, tmp_path):
    drawn = tmp_path / "pictures"
    (drawn / "more").mkdir(parents=True)
    Image.new("RGB", (40, 20), "red").save(drawn / "red.jpg")
    Image.new("RGBA", (28, 28), (0, 0, 0, 0)).save(drawn / "transparent.png")
    Image.new("P", (100, 30), 1).save(drawn / "more/palette.bmp")
    folder = edit("sdedit", f"image=[{drawn},{drawn}/red.jpg]", "count=10", "label=[1,2,-1,3]", "edit.strengths=[0.5]")
    said = json.loads((folder / "edit.json").read_text())
    assert said["images"] == ["palette", "red", "transparent", "red"]
    assert said["labels"] == [1, 2, -1, 3]
    assert pixels(folder / "002_transparent_input.png").min() == 255  # transparency lies over white
    assert len(list(folder.glob("*strength_0.5.png"))) == 4


def test_it_says_of_how_many_images_and_the_word_of_the_sampler(edit, tmp_path, capsys):
    for i in range(3):
        Image.new("L", (28, 28), 80 * i).save(tmp_path / f"{i}.png")
    files = ",".join(f"{tmp_path}/{i}.png" for i in range(3))
    settings = (f"image=[{files}]", "count=2", "edit.strengths=[0.5]", "sampler.steps=2")
    edit("sdedit", *settings)
    edit("sdedit", *settings, "sampler=ddpm_large", folder="other")
    edit("sdedit", *settings, "sampler._target_=diffusion_lab.sampling.samplers.euler", folder="own")
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("sdedit of")]
    assert [line.partition(", 2 steps")[0] for line in said] == [
        f"sdedit of 2 of 3 images (count=3 for all) with {name}" for name in ("dpmpp_2m_eta", "ddpm_large", "euler")
    ]


def test_known_pixels_come_out_as_they_went_in(edit, tmp_path):
    mask = Image.new("L", (56, 56), 0)
    mask.paste(255, (0, 28, 56, 56))
    mask.save(tmp_path / "mask.png")
    folder = edit("inpaint", f"edit.mask={tmp_path}/mask.png", "sampler.steps=12", "sampler.resamples=2")
    for before in folder.glob("*_input.png"):
        after = pixels(before.with_name(before.name.replace("input", "result")))
        assert np.array_equal(after[:14], pixels(before)[:14])
        assert not np.array_equal(after[14:], pixels(before)[14:])


def test_a_small_image_is_what_its_enlargement_averages_to(edit, tmp_path):
    small = np.random.default_rng(0).integers(0, 256, (7, 7), dtype=np.uint8)
    Image.fromarray(small).save(tmp_path / "small.png")
    folder = edit("superres", f"image={tmp_path}/small.png")
    result = pixels(folder / "000_small_result.png")
    assert np.abs(result.reshape(7, 4, 7, 4).mean((1, 3)) - small).max() < 1


def test_an_image_is_edited_alike_in_any_batch(edit):
    settings = ("sampler=ddpm", f"sampler.steps={STEPS}", "edit.strengths=[0.6]")
    alone = edit("sdedit", *settings, "count=3", "batch_size=1", folder="alone")
    together = edit("sdedit", *settings, "count=2", folder="together")
    name = "001_held_out_1_strength_0.6.png"
    assert np.abs(pixels(alone / name) - pixels(together / name)).max() <= 1
    assert np.abs(pixels(alone / name) - pixels(alone / name.replace("1", "0", 1).replace("out_1", "out_0"))).max() > 20


MISTAKES = {
    "image=/none": "is not a file or folder",
    "image=[]": "image=[] must be a file or a folder, or a list of them",
    "image=[5]": "must be a file or a folder",
    "image=PIPE": "is not a file or folder",
    "image=EMPTY": "holds no images",
    "image=TEXT": "cannot be read as an image",
    "label=10": "label=10 is not a class",
    "label=[1,2,3]": "names 3 classes for 2 images",
    "edit.strengths=[0]": "times above 0 and up to 1",
    "edit.strengths=0.5": "must be a list of times",
    "guidance.scale=[1,2]": "must be a number",
    "guidance.interval=[2,1]": "two noise levels",
    "guidance.rescale=2": "from 0 to 1",
    "guidance=classifier": "guidance.checkpoint=FILE is missing",
    "guidance=classifier guidance.checkpoint=CHECKPOINT": "give that of a NoisyClassifier",
    "edit=inpaint edit.box=[0,0,40,4]": "whole pixels within 28 x 28",
    "edit=superres edit.factor=3": "must be at least 2 and divide",
    "edit=invert sampler=ddpm": "take sampler=ddim",
    "edit=interpolate count=3": "in pairs",
    "edit=anagram image=TEXT": "it takes edit.labels, no image",
    "edit=anagram edit.labels=[1]": "edit.labels=[1] must be two labels",
    "edit=anagram edit/view=patches edit.view.across=3": "does not divide images of 28 px",
}


@pytest.mark.parametrize("overrides", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing(overrides, checkpoint, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no image")
    os.mkfifo(tmp_path / "pipe.jpg")  # whoever opens it waits for good
    names = {
        "PIPE": tmp_path / "pipe.jpg",
        "EMPTY": tmp_path / "empty",
        "TEXT": tmp_path / "text.png",
        "CHECKPOINT": checkpoint,
    }
    given = overrides
    for word, path in names.items():
        given = given.replace(word, str(path))
    cfg = composed("edit", "edit=sdedit", f"checkpoint={checkpoint}", "count=2", f"sampler.steps={STEPS}", *given.split())
    with pytest.raises(SystemExit) as stopped:
        edit_images(cfg, str(tmp_path / "outputs/edit/run"))
    assert stopped.value.code == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("error: ")
    assert MISTAKES[overrides] in said
    assert "\n" not in said
    assert not (tmp_path / "outputs").exists()


def test_a_row_a_class_and_a_column_a_scale(checkpoint, tmp_path, caplog):
    caplog.set_level("INFO", "diffusion_lab")
    settings = (f"checkpoint={checkpoint}", f"sampler.steps={STEPS}")
    sample_checkpoint(composed("sample", *settings, "label=all", "count=25"), str(tmp_path / "all"))
    assert "label=all draws 2 images of each of 10 classes, not count=25" in caplog.text
    assert len(list((tmp_path / "all").glob("0*.png"))) == 20  # two of each class
    with Image.open(tmp_path / "all/grid.png") as grid:
        assert grid.height > 4 * grid.width
    scales = (*settings, "label=all", "guidance.scale=[0,1,3]")
    sample_checkpoint(composed("sample", *scales), str(tmp_path / "scales"))
    assert "label=all draws 1 image of each of 10 classes at each scale, not count=36" in caplog.text
    drawn = {scale: pixels(tmp_path / f"scales/scale_{scale}/00004.png") for scale in (0, 1, 3)}
    assert np.abs(drawn[0] - drawn[1]).max() > 3
    assert np.abs(drawn[1] - drawn[3]).max() > 3
    assert len(list((tmp_path / "scales").rglob("0*.png"))) == 30


def test_guidance_wants_labels(tmp_path, capsys):
    checkpoint = written_checkpoint(tmp_path / "unlabelled.ckpt", "network.num_classes=0")
    with pytest.raises(SystemExit):
        sample_checkpoint(composed("sample", f"checkpoint={checkpoint}", "guidance.scale=3"), str(tmp_path / "run"))
    assert "guidance.scale=3 needs labels" in capsys.readouterr().err
    sample_checkpoint(composed("sample", f"checkpoint={checkpoint}", "sampler.steps=1", "count=2"), str(tmp_path / "run"))


@pytest.mark.parametrize("script", ["evaluate", "edit"])
def test_guidance_wants_labels_everywhere(script, tmp_path):
    checkpoint = written_checkpoint(tmp_path / "unlabelled.ckpt", "network.num_classes=0")
    cfg = composed(script, f"checkpoint={checkpoint}", "guidance.scale=3", *(["edit=sdedit"] if script == "edit" else []))
    with pytest.raises(UserError, match=r"guidance.scale=3 needs labels"):
        with_choices(load_checkpoint(checkpoint).config, cfg)
    with pytest.raises(UserError, match=r"guidance.scale=3.0 needs labels"):
        training_config(composed("train", "network.num_classes=0", "guidance=classifier_free"), Run(tmp_path))


def test_several_edits_at_once_leave_a_folder_each(checkpoint, tmp_path):
    arguments = ("-m", f"checkpoint={checkpoint}", "edit=noise,denoise_blur", "count=1")
    result = type_command(tmp_path, "edit", *arguments)
    assert result.returncode == 0, result.stderr
    strips = [file.parent.name for file in tmp_path.rglob("strip.png")]
    assert sorted(strips) == ["0_noise", "1_denoise_blur"]


def test_an_edit_by_a_network_that_diverged_writes_no_black_images(tmp_path, capsys):
    """Of one network call, which no sampler watches over."""
    file = written_checkpoint(tmp_path / "diverged.ckpt")
    state = torch.load(file, weights_only=True)
    state["state_dict"]["model.network.out.weight"].fill_(1e38)
    torch.save(state, file)
    with pytest.raises(SystemExit):
        edit_images(composed("edit", "edit=denoise_once", f"checkpoint={file}", "count=2"), str(tmp_path / "edited"))
    assert "edit made numbers that are not finite (one call, t = 0.2, on Cosine)" in capsys.readouterr().err
    assert not list((tmp_path / "edited").glob("*.png"))


def test_a_checkpoint_is_drawn_from_by_a_sampler_of_ones_own(checkpoint, tmp_path):
    """Typed, with the steps that the checkpoint was trained with; or as a choice of a folder, --config-dir."""
    (tmp_path / "mylab.py").write_text(
        "from diffusion_lab.sampling.samplers import ddim\n\n\n"
        "def mine(denoiser, noise, label=None, steps=1, **way):\n    print('mine', steps)\n"
        "    return ddim(denoiser, noise, label, steps=steps, **way)\n"
    )
    (tmp_path / "conf/sampler").mkdir(parents=True)
    (tmp_path / "conf/sampler/own.yaml").write_text("_target_: mylab.mine\n_partial_: true\nsteps: 3\n")
    trained = load_checkpoint(checkpoint).config["sampler"]["steps"]
    for words, steps in (("sampler._target_=mylab.mine",), trained), (("--config-dir", "conf", "sampler=own"), 3):
        said = type_command(tmp_path, "sample", *words, f"checkpoint={checkpoint}", "count=1", "out=drawn")
        assert f"mine {steps}" in said.stdout, said.stderr
        assert (tmp_path / "drawn/00000.png").is_file()
