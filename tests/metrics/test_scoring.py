from pathlib import Path

import torch
from pytest import approx, mark, raises

from diffusion_lab import ranks
from diffusion_lab.errors import Diverged, UserError
from diffusion_lab.figures import Figure
from diffusion_lab.metrics.errors import measure_errors
from diffusion_lab.metrics.quality import fid, measure_fid, measure_kid, measure_kid_per_batch
from diffusion_lab.metrics.scoring import check_counts, figures_of, measure, measures
from diffusion_lab.process.schedules import Cosine
from diffusion_lab.sampling.constraints import UpTo
from diffusion_lab.sampling.draw import draw
from diffusion_lab.sampling.samplers import ddim
from tests.metrics.scorings import Means, scoring_of
from tests.sampling.ideal import GaussianNetwork, ideal_denoiser

CONTRAST = Figure("contrast", "contrast", "levels", 1, less_is_better=False, depends_on=("samples",))


@measures(CONTRAST)
def contrast(scoring, scale: float = 1.0) -> dict[str, float]:
    return {"contrast": scale * scoring.generated.double().std().item()}


def pixels(count: int = 50) -> torch.Tensor:
    torch.manual_seed(0)
    return (128 + 20 * torch.randn(count, 1, 4, 4)).clamp(0, 255).to(torch.uint8)


def denoiser():
    return ideal_denoiser(GaussianNetwork(0.5, 0.1), Cosine(0.99999))


def test_a_metric_of_ones_own_is_a_function_and_a_declaration(tmp_path):
    results = measure(scoring_of(denoiser(), pixels(), cache_dir=tmp_path), {"mine": contrast})
    drawn = torch.cat(list(draw(denoiser(), ddim, 40, seed=0, batch_size=40)))
    assert results["contrast"] == approx(255 * drawn.std().item(), rel=0.01)
    assert results["figures"] == {"contrast": {**CONTRAST.plain()}}
    assert (results["samples"], results["network_calls"], results["real_images"]) == (40, 20, 50)
    assert "feature_extractor" not in results  # no features were asked for


def test_what_nobody_asks_for_is_not_done():
    results = measure(scoring_of(denoiser(), pixels()), {"errors": measure_errors})
    assert "samples" not in results
    assert set(results["figures"]) == {"noise_loss", "image_loss"}


def test_images_are_drawn_once_and_features_are_those_of_the_images(tmp_path):
    scoring = scoring_of(denoiser(), pixels(), cache_dir=tmp_path)
    results = measure(scoring, {"fid": measure_fid, "mine": contrast})
    extractor = Means()
    assert results["fid"] == approx(fid(extractor(pixels()), extractor(scoring.generated)))
    assert results["network_calls"] == 20  # not 40
    assert (results["feature_extractor"], results["extractor_resolution"], results["protocol"]) == ("means", 4, "standard")


def test_generated_images_do_not_depend_on_the_batch_and_are_of_the_guided_denoiser(tmp_path):
    one, other = (scoring_of(denoiser(), pixels(), batch_size=size).generated.int() for size in (7, 16))
    assert (one - other).abs().max() <= 1
    around = scoring_of(denoiser(), pixels(), guided=UpTo(denoiser(), 0.01)).generated.int()
    assert (around - other).abs().max() > 20


def test_how_far_a_long_drawing_is_is_said(monkeypatch, caplog):
    monkeypatch.setattr("diffusion_lab.metrics.scoring.TOLD_EVERY_S", 0)
    with caplog.at_level("INFO"):
        scoring_of(denoiser(), pixels(), batch_size=16).generated  # noqa: B018
    assert [record.getMessage() for record in caplog.records[1:]] == ["drew 16 of 40 images", "drew 32 of 40 images"]


def test_labels_are_those_of_the_held_out_images_in_turn():
    scoring = scoring_of(denoiser(), pixels(6), torch.tensor([2, 0, 1, 2, 2, 0]), samples=8)
    assert scoring.labels.tolist() == [2, 0, 1, 2, 2, 0, 2, 0]


def test_a_metric_that_says_no_figure_is_named():
    with raises(UserError, match=r"metrics.figures.mine says no figure"):
        figures_of({"mine": lambda scoring: {}})


@mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_figures_that_are_not_finite_are_none(value):
    metric = measures(CONTRAST)(lambda scoring: {"contrast": value})
    with raises(Diverged, match=f"contrast is {value}"):
        measure(scoring_of(denoiser(), pixels()), {"mine": metric})


@mark.parametrize(("metric", "fewest"), [(measure_kid, 4), (measure_kid_per_batch, 2), (measure_fid, 2)])
def test_too_few_images_are_refused_and_as_many_as_are_asked_for_are_enough(metric, fewest, tmp_path):
    for samples, held_out, message in (
        (fewest - 1, 50, f"metrics.samples={fewest - 1} is too few for mine: at least {fewest}"),
        (50, fewest - 1, f"{fewest - 1} held-out images are too few for mine, which needs {fewest}"),
    ):
        with raises(UserError, match=message):
            check_counts({"mine": metric}, samples, held_out)
    check_counts({"mine": metric}, fewest, fewest)
    scoring = scoring_of(denoiser(), pixels(fewest), samples=fewest, cache_dir=tmp_path)
    assert all(isinstance(value, dict | str | int | float) for value in measure(scoring, {"mine": metric}).values())


METRICS = {"errors": measure_errors, "kid": measure_kid, "fid": measure_fid, "mine": contrast}


def one_of_two(cache_dir: Path) -> dict:
    """What each of two processes does in the next test."""
    return measure(scoring_of(denoiser(), pixels(), cache_dir=cache_dir), METRICS)


@mark.ci
def test_two_processes_find_the_figures_of_one(tmp_path):
    """To the last digit; the real images' features of both are kept."""
    alone = one_of_two(tmp_path / "one")
    with ranks.helped(2, one_of_two, tmp_path / "two"):
        scoring = scoring_of(denoiser(), pixels(), cache_dir=tmp_path / "two")
        drawn = []
        scoring.guided.register_forward_pre_hook(lambda module, arguments: drawn.append(len(arguments[0])))
        assert measure(scoring, METRICS) == alone
    # The first process draws 24 of 40 images, in batches of 16, in 20 calls each; and denoises all 50 held-out ones.
    assert sum(drawn) == 24 * 20 + 50
    one, two = (list((tmp_path / which / "features").iterdir()) for which in ("one", "two"))
    assert [file.read_bytes() for file in one] == [file.read_bytes() for file in two]


def broken(part: int) -> None:
    raise RuntimeError("no such image")


def one_that_fails(cache_dir: Path) -> None:
    scoring = scoring_of(denoiser(), pixels(), cache_dir=cache_dir)
    scoring.guided.register_forward_pre_hook(lambda module, arguments: broken(0))
    measure(scoring, METRICS)


@mark.ci
def test_what_goes_wrong_in_another_process_is_said_by_the_first(tmp_path):
    with raises(RuntimeError, match="RuntimeError: no such image"), ranks.helped(2, one_that_fails, tmp_path):
        one_of_two(tmp_path)
