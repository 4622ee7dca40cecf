"""Rounded weights: how far off they are, by the definition of the rounding, and what is written of them."""

import numpy as np
import pytest

from diffusion_lab.checkpoints import load_checkpoint
from diffusion_lab.errors import UserError
from diffusion_lab.export.onnx import Session, onnx
from diffusion_lab.export.quantised import TOLERANCES, quantise
from diffusion_lab.export.step import example, largest_difference, step_of
from diffusion_lab.export.subject import opened
from tests.commands.test_edit import written_checkpoint

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    return opened(load_checkpoint(written_checkpoint(tmp_path_factory.mktemp("checkpoint") / "untrained.ckpt")))


@pytest.fixture
def product(tmp_path):
    """A file that multiplies by a matrix of two columns, one a thousand times larger, and adds a vector."""
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((300, 2)) * [1000, 1]).astype(np.float32)
    vector = rng.standard_normal(2).astype(np.float32)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", size]) for name, size in (("x", 300), ("y", 2))]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "v"], ["y"])]
    stored = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(vector, "v")]
    graph = helper.make_graph(nodes, "product", ends[:1], ends[1:], stored)
    file = tmp_path / "product.onnx"
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), file)
    return file, weight, vector


@pytest.mark.parametrize("to", TOLERANCES)
def test_each_weight_is_off_by_half_a_unit_of_its_own_column_at_most(product, to):
    file, weight, vector = product
    quantise(file, to)
    read = onnxruntime.InferenceSession(file).run(None, {"x": np.eye(300, dtype=np.float32)})[0] - vector
    ten_bits = 2.0 ** (np.floor(np.log2(np.abs(weight))) - 10)  # behind the leading one
    unit = ten_bits if to == "fp16" else np.abs(weight).max(0) / 127
    error = np.abs(read - weight)
    assert (error <= unit / 2 + 1e-6 * np.abs(weight).max(0)).all()
    assert error.max() > 0


@pytest.mark.parametrize(("to", "share"), [("fp16", 0.5), ("int8", 0.25)])
def test_the_file_is_smaller_and_gives_nearly_the_same(subject, tmp_path, to, share):
    exported = onnx(subject, tmp_path, to)
    weights = 4 * sum(parameter.numel() for parameter in subject.denoiser.parameters())
    assert exported.file.stat().st_size < share * weights + 1e5
    assert f"weights in {to} differs from torch by" in exported.notes[0]
    difference = largest_difference(step_of(subject.denoiser), Session(exported.file), "", TOLERANCES[to])
    assert difference > 1e-5  # rounded they are
    noisy, time, label, _ = example(step_of(subject.denoiser), 0.4)
    apart = (exported.rounded(noisy, time, label).image - subject.denoiser(noisy, time, label).image).abs().max()
    assert 0 < apart <= TOLERANCES[to]


def test_a_network_that_rounding_puts_out_is_refused(subject, tmp_path, monkeypatch):
    monkeypatch.setitem(TOLERANCES, "int8", 1e-4)
    with pytest.raises(UserError, match=r"with weights in int8 differs from torch by .*, more than 0\.0001: nothing"):
        onnx(subject, tmp_path, "int8")
    assert not list(tmp_path.iterdir())


def test_nothing_of_this_machine_is_in_the_file(subject, tmp_path):
    content = onnx(subject, tmp_path).file.read_bytes()
    assert b"site-packages" not in content
    assert b".py" not in content
