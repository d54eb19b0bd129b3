"""8-bit graphs, on networks small enough to check by hand."""

from __future__ import annotations

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from ppcls.export.int8 import Range, quantise  # noqa: E402
from ppcls.export.onnx_graph import finish  # noqa: E402


def network(path, weight: np.ndarray, bias: np.ndarray):
    """relu(conv(x)) + x, then its mean: float32 [N, C, H, W] → [N, C]."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Add", ["r", "x"], ["s"]),
        helper.make_node("GlobalAveragePool", ["s"], ["y"]),
    ]
    shape = ["n", weight.shape[1], 6, 5]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", len(weight), 1, 1])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def run(path, batch: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"]).run(None, {"x": batch})[0]


@pytest.fixture
def quantised(tmp_path):
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 1, (3, 3, 3, 3)).astype(np.float32)
    weight[1] *= 8  # a channel of another magnitude: one scale per channel keeps the others
    batches = [rng.normal(0, 1, (4, 3, 6, 5)).astype(np.float32) for _ in range(3)]
    source = network(tmp_path / "f.onnx", weight, rng.normal(0, 1, 3).astype(np.float32))
    (tmp_path / "scratch").mkdir()
    quantise(source, tmp_path / "q.onnx", batches, tmp_path / "scratch")
    return source, tmp_path / "q.onnx", weight, batches


def test_answers_stay_close(quantised):
    source, target, _, batches = quantised
    full, few = run(source, batches[0]), run(target, batches[0])
    assert 0 < abs(full - few).max() < 0.01 * abs(full).max()


def test_weights_are_bytes_that_cannot_overflow_anywhere(quantised):
    _, target, weight, _ = quantised
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(str(target)).graph.initializer}
    (stored,) = (value for value in tensors.values() if value.dtype == np.int8 and value.ndim == 4)
    (scales,) = (value for name, value in tensors.items() if name.endswith("weight_scale"))
    assert 2 * 255 * abs(stored.astype(int)).max() < 2**15
    restored = stored * scales.reshape(-1, 1, 1, 1)
    assert (abs(restored - weight).reshape(3, -1).max(axis=1) <= scales / 2 * 1.001).all()
    assert not any(value.dtype == np.float32 and value.ndim == 4 for value in tensors.values())


def test_ranges_come_from_the_images(quantised):
    _, target, _, batches = quantised
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(str(target)).graph.initializer}
    low, high = min(batch.min() for batch in batches), max(batch.max() for batch in batches)
    assert tensors["x_scale"] == pytest.approx((high - low) / 255)
    assert tensors["x_zero"] == round(-low / (high - low) * 255)
    assert tensors["r_zero"] == 0  # behind a ReLU


@pytest.mark.parametrize("gain", [0.0, 1e-12, 1e-6])
def test_a_channel_that_is_all_but_switched_off_keeps_its_bias(tmp_path, gain):
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 1, (3, 3, 3, 3)).astype(np.float32)
    weight[1] *= np.float32(gain)
    batch = rng.normal(0, 1, (4, 3, 6, 5)).astype(np.float32)
    source = network(tmp_path / "f.onnx", weight, np.float32([1, 7, 0]))
    (tmp_path / "scratch").mkdir()
    quantise(source, tmp_path / "q.onnx", [batch], tmp_path / "scratch")
    full, few = run(source, batch), run(tmp_path / "q.onnx", batch)
    assert abs(full - few).max() < 0.01 * abs(full).max()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0, 1])
def test_images_without_any_signal_are_no_division_by_zero(tmp_path, value):
    weight = np.full((3, 3, 3, 3), value, np.float32)
    source = network(tmp_path / "f.onnx", weight, np.zeros(3, np.float32))
    (tmp_path / "scratch").mkdir()
    quantise(source, tmp_path / "q.onnx", [np.zeros((1, 3, 6, 5), np.float32)], tmp_path / "scratch")
    assert (run(tmp_path / "q.onnx", np.zeros((1, 3, 6, 5), np.float32)) == 0).all()


@pytest.mark.parametrize(("low", "high"), [(0.0, 0.0), (-1.0, 0.0), (0.0, 3.0), (-2.0, 5.0)])
def test_zero_is_a_byte(low, high):
    found = Range(low, high)
    assert found.scale > 0
    assert abs((np.arange(256) - int(found.zero)) * found.scale).min() == 0
    assert (0 - int(found.zero)) * found.scale <= low + found.scale
    assert (255 - int(found.zero)) * found.scale >= high - found.scale


def test_a_graph_that_reads_what_nothing_gives_is_refused(tmp_path):
    source = network(tmp_path / "f.onnx", np.zeros((3, 3, 3, 3), np.float32), np.zeros(3, np.float32))
    model = onnx.load(str(source))
    with pytest.raises(ValueError, match="reads what no node gives"):
        finish(model, [helper.make_node("Relu", ["nowhere"], ["y"], "lost")], tmp_path / "out.onnx")
