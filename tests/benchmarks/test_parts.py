"""Each part measures what it says, on a small network and for a moment."""

import time

import pytest
import torch

from diffusion_lab.benchmarks import data, machine, memory, peers, profiling, sampling, training
from diffusion_lab.benchmarks.subject import experiment, training_parts
from diffusion_lab.benchmarks.training import Turns, lightning_loop
from diffusion_lab.metrics.features import EfficientNetLite0
from diffusion_lab.networks.unet import UNet

pytestmark = pytest.mark.usefixtures("within_benchmark")
SMALL = ["network.widths=[8,8]", "batch_size=4", "sampler.steps=3", "trainer.accelerator=cpu"]


def test_lightning_and_its_rivals_take_turns(tmp_path):
    steps = []

    def slow() -> int:
        steps.append(1)
        time.sleep(0.05)
        return 4

    turns = Turns({"slow": slow}, rounds=3, seconds=0.1)
    lightning_loop(experiment(*SMALL), tmp_path, turns)
    assert [len(rates) for rates in turns.rates.values()] == [3, 3]
    assert all(0 < rate < 81 for rate in turns.rates["slow"])  # far less where others keep the cores busy
    assert len(steps) >= 3 * 2 + 1  # and once before the first round
    assert all(0 <= wait < 1 for wait in turns.waits)


def test_nothing_is_said_of_the_training_itself_also_on_a_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    lightning_loop(experiment(*SMALL), tmp_path, Turns({}, rounds=1, seconds=0.05))
    assert "epoch" not in capsys.readouterr().out


def test_a_bare_loop_trains(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(training, "training_parts", lambda *parts: made.append(training_parts(*parts)) or made[-1])
    work = training.bare_loop(experiment(*SMALL), tmp_path)
    network = made[0][0].model.network
    before = [parameter.clone() for parameter in network.parameters()]
    assert work() == 4
    assert any((old != new).any() for old, new in zip(before, network.parameters(), strict=True))


def test_training_figures(tmp_path):
    figures = training.against_bare_loops(tmp_path, rounds=1, seconds=0.05, overrides=SMALL)
    bare, plain, ceiling, waiting = figures
    assert bare.ratio == pytest.approx(bare.value / bare.against_value)
    assert plain.against == "bare loop, float32 and contiguous"
    assert ceiling.unit == "GFLOP/s"
    assert 0 < ceiling.ratio < 1  # a whole step is no faster than its best operator
    assert 0 <= waiting.value < 100


def counted_in_turns(monkeypatch, cls) -> dict[str, tuple[int, int]]:
    """Instead of rates, which a busy machine bends: per case the images it says that it did, and those `cls` saw."""
    counts, seen, forward = {}, [], cls.forward
    monkeypatch.setattr(cls, "forward", lambda self, x, *rest: seen.append(len(x)) or forward(self, x, *rest))

    def turns(cases, rounds, seconds):
        for name, work in cases.items():
            seen.clear()
            counts[name] = (work(), sum(seen))
        return {name: [1.0] for name in cases}

    monkeypatch.setattr(sampling, "in_turns", turns)
    return counts


def test_sampling_is_set_against_as_many_images_and_calls(tmp_path, monkeypatch):
    counts = counted_in_turns(monkeypatch, UNet)
    sampling.against_forward_pass(tmp_path, rounds=1, seconds=0.05, overrides=SMALL)
    assert counts == {"sampling": (12, 12), "forward pass alone": (12, 12)}  # 4 images, 3 calls


def test_scoring_is_set_against_as_many_images(tmp_path, monkeypatch):
    counts = counted_in_turns(monkeypatch, EfficientNetLite0)
    again = sampling.against_extractor(tmp_path, 1, 0.05, [*SMALL, "metrics.batch_size=8"])[1]
    assert counts == {"scoring": (8, 8), "extractor alone": (8, 8)}
    assert again.value == 0


def test_photographs_are_decoded_once(tmp_path):
    epochs, decoding, again = data.pipeline(tmp_path, 1, 0.05, SMALL, photographs=6)
    assert epochs.ratio == pytest.approx(epochs.value / epochs.against_value)
    assert again.value > decoding.value


@pytest.mark.slow
def test_memory_is_that_of_a_process_of_its_own(tmp_path):
    much = torch.ones(2**29)  # 2 GB, here
    peak, growth = memory.of_training(tmp_path, 1, 0.05, SMALL, steps=20)
    assert much.nbytes / 1e6 > peak.value > 100  # MB: the libraries alone take some hundred
    assert 0 <= growth.value < 50


def test_the_profile_names_the_operators(tmp_path):
    step, *operators = profiling.operators(tmp_path, 1, 0.05, SMALL, rows=1000)
    assert any(figure.what.startswith("aten::mkldnn_convolution,") for figure in operators)
    assert sum(figure.value for figure in operators) == pytest.approx(step.value)
    assert sum(figure.ratio for figure in operators) == pytest.approx(1)


def test_ceilings_are_of_this_machine(tmp_path):
    product, convolution = machine.ceilings(tmp_path, 1, 0.05)[:2]
    assert 1 < convolution.value < 1e6
    assert 1 < product.value < 1e6
    assert machine.describe()["cores"] >= 1


@pytest.mark.parametrize(
    ("module", "millions"), [("diffusers", 4.76), ("denoising_diffusion_pytorch", 3.85), ("tensorflow", 1.95)]
)
def test_peers_take_their_own_step(module, millions):
    if module not in peers.installed():
        pytest.skip(f"{module} is not installed: pip install '.[peers]'")
    work, parameters = peers.installed()[module](64, 1, torch.device("cpu"))
    assert parameters / 1e6 == pytest.approx(millions, abs=0.01)
    assert work() == 1
