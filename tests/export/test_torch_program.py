"""The exported program runs without this package, and gives what the model gives."""

import subprocess
import sys

import pytest
import torch

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.export.step import example, step_of
from diffusion_lab.export.subject import opened
from diffusion_lab.export.torch_program import torch_program
from tests.commands.test_edit import written_checkpoint


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    return opened(load_checkpoint(written_checkpoint(tmp_path_factory.mktemp("checkpoint") / "untrained.ckpt")))


@pytest.mark.ci
def test_it_runs_in_a_process_that_knows_torch_alone(subject, tmp_path):
    file = torch_program(subject, tmp_path).file
    step = step_of(subject.denoiser)
    inputs = example(step, 0.4, 5)
    torch.save(inputs, tmp_path / "inputs.pt")
    code = (
        "import sys, torch\n"
        "step = torch.export.load('model.pt2').module()\n"
        "torch.save(step(*torch.load('inputs.pt')), 'outputs.pt')\n"
        "assert not [name for name in sys.modules if name.startswith('diffusion_lab')]\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    given = torch.load(tmp_path / "outputs.pt")
    for ours, theirs in zip(step(*inputs), given, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert file.name == "model.pt2"
