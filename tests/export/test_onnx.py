"""The ONNX file gives what torch gives, whatever the batch size, and guidance of it what our guidance gives."""

import pytest
import torch

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.errors import UserError
from diffusion_lab.export import step as steps
from diffusion_lab.export.onnx import Session, onnx
from diffusion_lab.export.step import example, largest_difference, step_of
from diffusion_lab.export.subject import opened
from diffusion_lab.sampling.guidance import ClassifierFreeGuidance
from tests.commands.test_edit import written_checkpoint

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    file = written_checkpoint(tmp_path_factory.mktemp("checkpoint") / "untrained.ckpt")
    return opened(load_checkpoint(file))


@pytest.fixture(scope="module")
def exported(subject, tmp_path_factory):
    return onnx(subject, tmp_path_factory.mktemp("onnx"))


@pytest.mark.ci
def test_it_is_one_file_of_the_size_of_its_weights(subject, exported):
    assert [file.name for file in exported.file.parent.iterdir()] == ["model.onnx"]
    weights = 4 * sum(parameter.numel() for parameter in subject.denoiser.parameters())
    assert weights < exported.file.stat().st_size < weights + 1e6


@pytest.mark.parametrize("count", [1, 2, 5])
def test_guided_estimates_are_those_of_guidance_in_torch(subject, exported, count):
    session = Session(exported.file)
    noisy, time, label, _ = example(step_of(subject.denoiser), 0.6, count)
    for scale in (0.0, 1.0, 2.5):
        wanted = ClassifierFreeGuidance(subject.denoiser, scale)(noisy, time, label)
        image, noise = session(noisy, time, label, torch.full((count,), scale))
        torch.testing.assert_close(image, wanted.image, atol=1e-4, rtol=0)
        torch.testing.assert_close(noise, wanted.noise, atol=1e-4, rtol=0)


def test_at_scale_one_it_is_the_conditional_estimate_to_the_bit(subject):
    noisy, time, label, _ = example(step_of(subject.denoiser), 0.6, 4)
    both = subject.denoiser(torch.cat([noisy, noisy]), torch.cat([time, time]), torch.cat([label, label * 0 - 1]))
    image, noise = step_of(subject.denoiser)(noisy, time, label, torch.ones(4))
    assert torch.equal(image, both.image[:4])
    assert torch.equal(noise, both.noise[:4])


def test_the_five_lines_of_its_card_run(exported, monkeypatch):
    monkeypatch.chdir(exported.file.parent)
    names = {}
    exec(exported.usage, names)
    assert names["image"].shape == names["noise"].shape == (4, 1, 28, 28)


def test_a_graph_that_differs_is_refused(subject, exported):
    """As the exporter has given wrong graphs before."""
    session, step = Session(exported.file), step_of(subject.denoiser)

    def late(noisy, time, label, scale):
        image, noise = session(noisy, time, label, scale)
        return image, noise + 0.01 * (time < 0.3).view(-1, 1, 1, 1)

    with pytest.raises(
        UserError, match=r"differs from torch by 0\.0063 in the noise at time 0\.2, more than 0\.001: nothing"
    ):
        largest_difference(step, late, "the graph")
    with pytest.raises(UserError, match="by nan in the image at time 1"):
        largest_difference(step, lambda *inputs: [part * float("nan") for part in session(*inputs)], "the graph")
    assert largest_difference(step, session, "the graph") < 1e-4


def test_nothing_is_left_of_a_refused_export(subject, tmp_path, monkeypatch):
    def refuse(*_):
        raise UserError("it differs")

    monkeypatch.setattr("diffusion_lab.export.onnx.largest_difference", refuse)
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: Program())
    monkeypatch.setattr(Session, "__init__", lambda *_: None)  # there is no graph in it
    with pytest.raises(UserError, match="it differs"):
        onnx(subject, tmp_path)
    assert not list(tmp_path.iterdir())


class Program:
    def save(self, file, external_data) -> None:
        import onnx

        onnx.save(onnx.ModelProto(), file)


def test_estimates_may_differ_as_far_as_they_are_amplified(subject):
    """A tenth of the tolerance in the noise is a hundred times more in the image where little is left of it."""
    image_gain, noise_gain = steps._gains(subject.denoiser, 0.0)
    assert (image_gain, round(noise_gain, 2)) == (1.0, round(0.95 / (1 - 0.95**2) ** 0.5, 2))
