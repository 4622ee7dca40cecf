"""Weights of a graph in 8 or 16 bits: a file of a quarter or half the size, for any network and wherever ONNX Runtime runs.

Only what is stored is smaller. Opened, the weights become float32 again, so the graph is as fast as before, and its values
are off by the rounding of the weights alone. (ONNX Runtime's own dynamic quantisation rounds what flows through the graph
too: on the default network that was five times as far off, and slower.)
"""

from pathlib import Path

import numpy as np

FEWEST = 256  # numbers of a weight; smaller ones, and vectors, stay as they are
# In units of the network's output, whose standard deviation is about 1; guidance of scale 3, which is among what is
# compared, makes an error up to five times as large.
TOLERANCES = {"fp16": 0.01, "int8": 0.2}


def quantise(file: Path, to: str) -> None:
    """Round the weights of the ONNX file to `to`: fp16, or int8 times a scale for each output channel."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(file)
    graph = model.graph
    multiplied = {name for node in graph.node if node.op_type == "MatMul" for name in node.input}
    stored, readers = [], []
    for tensor in graph.initializer:
        weight, name = numpy_helper.to_array(tensor), tensor.name
        if weight.dtype != np.float32 or weight.ndim < 2 or weight.size < FEWEST:
            stored.append(tensor)
            continue
        # ONNX Runtime works these out once, when it opens the file; DequantizeLinear it would at each call.
        if to == "fp16":
            stored.append(numpy_helper.from_array(_halved(weight), f"{name}.small"))
            readers.append(helper.make_node("Cast", [f"{name}.small"], [name], to=TensorProto.FLOAT))
        else:
            whole, scale = _whole(weight, axis=weight.ndim - 1 if name in multiplied else 0)
            stored += [numpy_helper.from_array(whole, f"{name}.small"), numpy_helper.from_array(scale, f"{name}.scale")]
            readers.append(helper.make_node("Cast", [f"{name}.small"], [f"{name}.whole"], to=TensorProto.FLOAT))
            readers.append(helper.make_node("Mul", [f"{name}.whole", f"{name}.scale"], [name]))
    nodes = [*readers, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(stored)
    graph.node.extend(nodes)
    onnx.save(model, file)


def _halved(weight: np.ndarray) -> np.ndarray:
    """A weight in float16; what is too large for it, its largest."""
    most = np.finfo(np.float16).max
    return weight.clip(-most, most).astype(np.float16)


def _whole(weight: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers from -127 to 127, int8, and the scales of the channels along `axis`; the weight is their product."""
    largest = np.abs(weight).max(tuple(i for i in range(weight.ndim) if i != axis), keepdims=True)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    return np.rint(weight / scale).astype(np.int8), scale
