"""`evaluate.py` on a tiny run."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from diffusion_lab.commands.evaluate import evaluate_checkpoint
from diffusion_lab.commands.train import train
from diffusion_lab.experiments.runs import Run
from tests.commands.test_edit import written_checkpoint
from tests.conftest import TINY, composed

FIGURES = ("noise_loss", "image_loss", "kid", "kid_std", "kid_image_error", "fid")


def test_evaluate_repeats_the_figures_from_the_checkpoint_alone(finished, tmp_path):
    moved = tmp_path / "elsewhere.ckpt"
    moved.write_bytes(finished.last_checkpoint.read_bytes())
    evaluate_checkpoint(composed("evaluate", f"checkpoint={moved}"), str(tmp_path / "evaluation"), is_multirun=False)
    evaluation = json.loads((tmp_path / "evaluation/results.json").read_text())
    assert {key: evaluation[key] for key in FIGURES} == {key: finished.results()[key] for key in FIGURES}


def test_evaluate_takes_other_choices(finished, tmp_path):
    overrides = (
        f"checkpoint={finished.last_checkpoint}",
        "sampler.steps=5",
        "metrics=reference",
        "metrics.samples=20",
        "seed=3",
        "logger=wandb",
    )
    evaluate_checkpoint(composed("evaluate", *overrides), str(tmp_path / "evaluation"), is_multirun=False)
    evaluation = json.loads((tmp_path / "evaluation/results.json").read_text())
    assert (evaluation["network_calls"], evaluation["samples"], evaluation["protocol"]) == (5, 20, "reference")
    assert evaluation["noise_loss"] == finished.results()["noise_loss"]
    assert evaluation["kid"] != finished.results()["kid"]
    assert (tmp_path / "evaluation/samples/final.png").is_file()
    assert list((tmp_path / "evaluation").glob("wandb/offline-run-*/files/media/images/final_samples*.png"))


@pytest.mark.parametrize("sampler", ["ddpm", "dpmpp_2m", "dpmpp_3m", "euler", "unipc"])
def test_evaluate_counts_the_calls_of_any_sampler(finished, tmp_path, sampler):
    if sampler == "unipc":
        pytest.importorskip("diffusers")
    overrides = (f"checkpoint={finished.last_checkpoint}", f"sampler={sampler}", "sampler.steps=4", "metrics.vlb_calls=2")
    overrides += ("metrics.samples=8",)
    evaluate_checkpoint(composed("evaluate", *overrides, "sampler/threshold=static"), str(tmp_path / sampler), False)
    evaluation = json.loads((tmp_path / sampler / "results.json").read_text())
    assert evaluation["network_calls"] == 4
    assert evaluation["choices"]["sampler"] == sampler
    assert evaluation["bits_per_dimension"] > evaluation["bits_per_dimension_error"] > 0


def test_evaluate_finds_images_that_have_moved(tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for i in range(60):
        Image.fromarray(rng.integers(0, 255, (28, 28), dtype=np.uint8)).save(tmp_path / f"images/{i}.png")
    data = ("data=folder", "data.channels=1", "data.image_size=28", f"data.root={tmp_path}/images")
    train(composed("train", *TINY, *data, "epochs=1", "logger=csv"), str(tmp_path / "run"), is_multirun=False)
    (tmp_path / "images").rename(tmp_path / "moved")
    overrides = (f"checkpoint={tmp_path}/run/checkpoints/last.ckpt", f"data.root={tmp_path}/moved")
    evaluate_checkpoint(composed("evaluate", *overrides), str(tmp_path / "evaluation"), is_multirun=False)
    figures = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("run", "evaluation")]
    assert figures[0]["kid"] == figures[1]["kid"]


def test_a_checkpoint_is_scored_by_the_figures_that_it_was_trained_to_be_scored_by(tmp_path, capsys):
    checkpoint = written_checkpoint(tmp_path / "x.ckpt", "metrics/figures=[errors]", "objective=image_loss", "grid.count=4")

    def evaluated(*overrides: str) -> float:
        cfg = composed("evaluate", f"checkpoint={checkpoint}", "sampler.steps=2", *overrides)
        return evaluate_checkpoint(cfg, str(tmp_path / "run"), is_multirun=False)

    said = {
        "objective=kid": r"objective=kid is not measured by metrics/figures=\[errors\]: take one of noise_loss, image_loss",
        "metrics.vlb_calls=3": "metrics.vlb_calls=3 asks for bits, which is none of the figures .*: take metrics=standard",
        f"metrics.classifier={checkpoint}": "metrics.classifier=.* asks for labels, which is none",
    }
    for typed, message in said.items():
        with pytest.raises(SystemExit):
            evaluated(typed)
        assert re.search(message, capsys.readouterr().err)
        assert not (tmp_path / "run").exists()
    assert evaluated() == Run(tmp_path / "run").results()["image_loss"] > 0
