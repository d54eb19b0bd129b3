"""The resize in the graph gives Pillow's bytes."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ppcls.data.transform import EvalTransform
from ppcls.export.inference import PARAMS, model_file, output_name, write_graph
from ppcls.export.onnx import write_onnx
from ppcls.export.resize import PillowResize, Preprocess, resize_weights

HEIGHT, WIDTH = 32, 16
SIZES = [(HEIGHT, WIDTH), (64, 32), (1, 1), (1, 90), (90, 1), (31, 17), (200, 150), (333, 3), (33, 16), (1000, 9)]


def pictures(count: int, height: int, width: int, seed: int, kind: str = "noise") -> np.ndarray:
    """uint8 [count, height, width, 3]."""
    rng = np.random.default_rng(seed)
    if kind == "extremes":  # sums that lie at the ends of the byte range
        return (rng.integers(0, 2, (count, height, width, 3)) * 255).astype(np.uint8)
    return rng.integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def pillow(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR))


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 300),
    width=st.integers(1, 300),
    to_height=st.integers(1, 70),
    to_width=st.integers(1, 70),
    kind=st.sampled_from(["noise", "extremes"]),
    seed=st.integers(0, 2**16),
)
def test_every_byte_is_that_of_pillow(height, width, to_height, to_width, kind, seed):
    (picture,) = pictures(1, height, width, seed, kind)
    found = PillowResize(to_height, to_width)(paddle.to_tensor(picture[None])).numpy()[0]
    np.testing.assert_array_equal(found.transpose(1, 2, 0), pillow(picture, to_height, to_width))


@settings(max_examples=15, deadline=None)
@given(width=st.integers(1, 4), more=st.integers(-3, 300), seed=st.integers(0, 2**16))
def test_very_tall_pictures_are_resized_in_the_other_order(width, more, seed):
    (picture,) = pictures(1, 100 * width + more, width, seed)
    found = PillowResize(HEIGHT, WIDTH)(paddle.to_tensor(picture[None])).numpy()[0]
    np.testing.assert_array_equal(found.transpose(1, 2, 0), pillow(picture, HEIGHT, WIDTH))


def test_weights_are_whole_and_the_identity_where_nothing_changes():
    same = resize_weights(paddle.to_tensor([7]), 7).numpy()
    np.testing.assert_array_equal(same, np.eye(7) * 2**22)
    smaller = resize_weights(paddle.to_tensor([701]), 13).numpy()
    assert smaller.shape == (13, 701)
    np.testing.assert_array_equal(smaller, np.rint(smaller))
    assert abs(smaller.sum(axis=1) - 2**22).max() <= 701  # rounding moves each weight by at most a half


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """(run of the Paddle graph with oneDNN, run of the ONNX graph) of the preprocessing alone."""
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("preprocess")
    layer = Preprocess(HEIGHT, WIDTH)
    layer.eval()
    write_graph(layer, paddle.static.InputSpec([None, None, None, 3], "uint8", name="x"), folder)
    name = output_name(folder / model_file("json"))
    write_onnx(folder, folder / "p.onnx", name)
    config = paddle.inference.Config(str(folder / model_file("json")), str(folder / PARAMS))
    config.disable_glog_info()
    config.enable_mkldnn()
    predictor = paddle.inference.create_predictor(config)
    session = onnxruntime.InferenceSession(str(folder / "p.onnx"), providers=["CPUExecutionProvider"])

    def run(batch: np.ndarray) -> np.ndarray:
        predictor.get_input_handle("x").copy_from_cpu(batch)
        predictor.run()
        return predictor.get_output_handle(name).copy_to_cpu()

    return run, lambda batch: session.run([name], {"x": batch})[0]


@pytest.mark.slow
@pytest.mark.parametrize("which", [0, 1], ids=["paddle", "onnx"])
def test_graphs_preprocess_as_the_evaluation_does(graphs, which):
    transform = EvalTransform(HEIGHT, WIDTH)
    for seed, (height, width) in enumerate(SIZES):
        batch = pictures(3, height, width, seed, "extremes" if seed % 2 else "noise")
        expected = np.stack([transform(Image.fromarray(picture)) for picture in batch])
        np.testing.assert_array_equal(graphs[which](batch), expected, err_msg=f"{height}×{width}")
