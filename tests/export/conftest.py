"""torch takes ten seconds to export a network, and gives the same for the same: once for all tests."""

import hashlib
from collections.abc import Iterator

import pytest
import torch
from torch import nn


@pytest.fixture(scope="package", autouse=True)
def exported_once() -> Iterator[None]:
    export, programs = torch.onnx.export, {}

    def exported(step: nn.Module, *inputs, **settings):
        weights = b"".join(tensor.numpy().tobytes() for tensor in step.state_dict().values())
        key = (str(step), hashlib.sha256(weights).digest())
        if key not in programs:
            programs[key] = export(step, *inputs, **settings)
        return programs[key]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.onnx, "export", exported)
        yield
