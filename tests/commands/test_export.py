"""`export.py`: what it writes and says, and mistakes in one line."""

import pytest

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.commands.export import export_checkpoint
from diffusion_lab.experiments.runs import Run, config_hash
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
    run.checkpoints.mkdir(parents=True)
    written_checkpoint(run.last_checkpoint)
    config = load_checkpoint(run.last_checkpoint).config
    results = {"kid": 0.125, "samples": 24, "real_images": 32, "network_calls": 3, "weights": "averaged", "protocol": "p"}
    results |= {"feature_extractor": "efficientnet_lite0", "extractor_resolution": 64, "config_hash": None}
    run.begin(config)
    run.finish(results | {"config_hash": config_hash(config)})
    exported = Exported(tmp_path / "model.onnx", "use(it)")
    said = card(opened(load_checkpoint(run.last_checkpoint)), exported)
    assert "| KID | 0.1250 |" in said
    assert "24 generated ones, 3 network calls each; features of efficientnet_lite0 at 64 px" in said
    run.last_checkpoint.rename(run.checkpoints / "best.ckpt")  # whose figures those are not
    assert "0.1250" not in card(opened(load_checkpoint(run.checkpoints / "best.ckpt")), exported)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["format=safetensors"], "checkpoint=FILE is missing"),
        (["format=safetensors", "checkpoint=nowhere.ckpt"], "nowhere.ckpt is not a file"),
        (["format=safetensors", "checkpoint=FILE", "open=true"], "open=true opens a page: take format=web"),
        (["format=safetensors", "checkpoint=FILE", "open=3"], "open=3 must be true or false"),
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
    assert not (tmp_path / "exported").exists()


def _own_cache(words: list[str], folder) -> list[str]:
    return [f"format.cache_dir={folder}/cache"] if "format=web" in words else []
