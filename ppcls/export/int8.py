"""An ONNX graph with 8-bit convolutions: static quantisation with calibrated ranges, in the QDQ form.

Every convolution gets 8-bit weights, one scale per output channel, and 8-bit activations whose ranges come from real
images. The graph stays ordinary ONNX: pairs of QuantizeLinear and DequantizeLinear mark what is 8 bits wide (Jacob et
al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018), and a
runtime replaces the convolutions, additions and poolings between them by integer kernels.

Written here because onnxruntime's own quantisation tools need packages that onnxruntime does not bring.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ppcls.export.onnx_graph import finish, fold, replace, session

_LEVELS = 255
_WEIGHT_LIMIT = 64
_BIAS_LIMIT = 1 << 30
_SMALLEST_SCALE = 1e-18  # the product of two is still a float32


def quantise(source: Path, target: Path, batches: Iterable[np.ndarray], scratch: Path) -> None:
    """Write the int8 form of the fp32 graph ``source`` to ``target``.

    Args:
        batches: real images as the graph takes them.
        scratch: an empty folder for intermediate graphs.
    """
    model = fold(source, scratch / "folded.onnx")
    ranges = observe(model, _Layout(model).quantised, batches, scratch / "observed.onnx")
    finish(model, with_pairs(model, ranges), target)


@dataclass(frozen=True)
class Range:
    """Least and largest value of a tensor; 0 lies within."""

    low: float
    high: float

    @property
    def scale(self) -> np.float32:
        """Width of one of the 255 steps."""
        return np.float32(max((self.high - self.low) / _LEVELS, _SMALLEST_SCALE))

    @property
    def zero(self) -> np.uint8:
        """The byte that stands for 0."""
        return np.uint8(np.clip(round(-self.low / float(self.scale)), 0, _LEVELS))


class _Layout:
    """Which tensors of a folded graph become 8 bits wide."""

    def __init__(self, model: onnx.ModelProto):
        self.weights = {tensor.name for tensor in model.graph.initializer}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.quantised = self._choose(model)

    def convolutions(self, model: onnx.ModelProto) -> list[onnx.NodeProto]:
        """Convolutions with constant weights."""
        return [node for node in model.graph.node if node.op_type == "Conv" and node.input[1] in self.weights]

    def _choose(self, model: onnx.ModelProto) -> list[str]:
        """What convolutions read, and what they, additions of such tensors and poolings of them give."""
        outputs = {value.name for value in model.graph.output}
        convolutions = self.convolutions(model)
        chosen = dict.fromkeys(node.input[0] for node in convolutions)
        chosen.update(dict.fromkeys(self._after_relu(node.output[0]) for node in convolutions))
        for node in model.graph.node:
            is_sum = node.op_type == "Add" and all(name in chosen for name in node.input)
            is_pool = node.op_type == "MaxPool" and node.input[0] in chosen and len(node.output) == 1
            if is_sum or is_pool:
                chosen[self._after_relu(node.output[0])] = None
        return [name for name in chosen if name not in outputs]

    def _after_relu(self, name: str) -> str:
        readers = self.readers.get(name, [])
        return readers[0].output[0] if len(readers) == 1 and readers[0].op_type == "Relu" else name


def observe(model: onnx.ModelProto, names: list[str], batches: Iterable[np.ndarray], scratch: Path) -> dict[str, Range]:
    """Ranges that the tensors ``names`` take over all batches."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    known = {value.name for value in watched.graph.output}
    inside = [name for name in names if name not in {value.name for value in watched.graph.input}]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inside if name not in known)
    onnx.save(watched, str(scratch))
    running = session(scratch)
    (given,) = (value.name for value in running.get_inputs())
    found = {name: Range(0.0, 0.0) for name in names}
    for batch in batches:
        values = dict(zip(inside, running.run(inside, {given: batch}), strict=True))
        values |= {given: batch} if given in found else {}
        for name, value in values.items():
            known_range = found[name]
            found[name] = Range(min(known_range.low, float(value.min())), max(known_range.high, float(value.max())))
    return found


def with_pairs(model: onnx.ModelProto, ranges: dict[str, Range]) -> list[onnx.NodeProto]:
    """The nodes of ``model`` with a pair behind every tensor of ``ranges`` and 8-bit weights; their order is not valid.

    The new constants are added to ``model``.
    """
    layout = _Layout(model)
    added: list[onnx.NodeProto] = []
    for node in layout.convolutions(model):
        added += _weights(model, node, ranges[node.input[0]])
    for name, found in ranges.items():
        pair = _pair(model, name, found)
        for node in layout.readers.get(name, []):
            replace(node.input, name, pair[1].output[0])
        added += pair
    return [*model.graph.node, *added]


def _pair(model: onnx.ModelProto, name: str, found: Range) -> list[onnx.NodeProto]:
    scale, zero = _constant(model, f"{name}_scale", found.scale), _constant(model, f"{name}_zero", found.zero)
    return [
        helper.make_node("QuantizeLinear", [name, scale, zero], [f"{name}_bytes"], f"{name}_quantise"),
        helper.make_node("DequantizeLinear", [f"{name}_bytes", scale, zero], [f"{name}_8bit"], f"{name}_dequantise"),
    ]


def _weights(model: onnx.ModelProto, node: onnx.NodeProto, found: Range) -> list[onnx.NodeProto]:
    """Weights as signed bytes within ±64, bias as 32-bit integers.

    Processors with AVX2 but without VNNI add two products of an unsigned and a signed byte in 16 bits. Within ±64 that
    cannot overflow (2·255·64 < 2**15), so that the graph gives the same answers everywhere; the lost bit is less than
    the speed that unsigned weights, which onnxruntime takes for such processors, cost on all others.

    A bias counts in steps of weight times input. Where training has all but switched a channel off, those of its
    weights would be so fine that the bias leaves 32 bits; such a channel gets coarser ones.
    """
    held = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = numpy_helper.to_array(held[node.input[1]])
    largest = np.abs(weights).reshape(len(weights), -1).max(axis=1)
    scales = np.maximum(largest / _WEIGHT_LIMIT, _SMALLEST_SCALE)
    bias = numpy_helper.to_array(held[node.input[2]]) if len(node.input) > 2 and node.input[2] else None
    if bias is not None:
        scales = np.maximum(scales, np.abs(bias) / (_BIAS_LIMIT * found.scale))
    scales = scales.astype(np.float32)
    steps = np.rint(weights / scales.reshape(-1, *[1] * (weights.ndim - 1)))
    name = f"{node.name or node.output[0]}_weight"
    nodes = [_dequantised(model, name, steps.astype(np.int8), scales)]
    node.input[1] = nodes[0].output[0]
    if bias is not None:
        steps = scales * found.scale
        values = np.rint(bias / steps.astype(np.float64)).astype(np.int32)
        nodes.append(_dequantised(model, f"{name}_bias", values, steps))
        node.input[2] = nodes[-1].output[0]
    return nodes


def _dequantised(model: onnx.ModelProto, name: str, values: np.ndarray, scales: np.ndarray) -> onnx.NodeProto:
    inputs = [
        _constant(model, f"{name}_bytes", values),
        _constant(model, f"{name}_scale", scales),
        _constant(model, f"{name}_zero", np.zeros(len(scales), values.dtype)),
    ]
    return helper.make_node("DequantizeLinear", inputs, [f"{name}_8bit"], f"{name}_dequantise", axis=0)


def _constant(model: onnx.ModelProto, name: str, value) -> str:
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    return name
