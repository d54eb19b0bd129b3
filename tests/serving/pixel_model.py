"""A model whose embedding is the first numbers of its input, so that every backend and machine gives the same bytes.

Its Python twin is :class:`tests.serving.conftest.SlowPixels`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from ppcls.configs.exported import ExportedModel, GraphFile, InputSpec, OutputSpec, SourceSpec, write_exported
from tests.serving.conftest import DIM, HEIGHT, WIDTH

_SAVE_OLD_FORMAT = """
import sys
import paddle
paddle.enable_static()
x = paddle.static.data("x", [None, 3, {height}, {width}], "float32")
one = paddle.create_parameter([1], "float32", default_initializer=paddle.nn.initializer.Constant(1.0))
features = paddle.flatten(x, 1)[:, :{dim}] * one
executor = paddle.static.Executor(paddle.CPUPlace())
executor.run(paddle.static.default_startup_program())
paddle.static.save_inference_model(sys.argv[1], [x], [features], executor)
print("output", features.name)
"""


def make_onnx(folder: Path) -> Path:
    """An exported model with an ONNX graph."""
    nodes = [
        helper.make_node("Flatten", ["x"], ["numbers"], axis=1),
        helper.make_node("Slice", ["numbers", "starts", "ends", "axes"], ["features"]),
    ]
    numbers = {"starts": [0], "ends": [DIM], "axes": [1]}
    graph = helper.make_graph(
        nodes,
        "pixels",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, HEIGHT, WIDTH])],
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", DIM])],
        [onnx.numpy_helper.from_array(np.array(value, np.int64), name) for name, value in numbers.items()],
    )
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "inference.onnx")
    return _describe(folder, "features", GraphFile(kind="onnx", model="inference.onnx"))


def make_pdmodel(folder: Path) -> Path:
    """An exported model with a graph in Paddle's older format."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", _SAVE_OLD_FORMAT.format(height=HEIGHT, width=WIDTH, dim=DIM), str(folder / "inference")],
        env={**os.environ, "FLAGS_enable_pir_api": "0", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    output = next(line.split()[1] for line in done.stdout.splitlines() if line.startswith("output "))
    graph = GraphFile(kind="paddle", model="inference.pdmodel", params="inference.pdiparams")
    return _describe(folder, output, graph)


def _describe(folder: Path, output: str, graph: GraphFile) -> Path:
    source = SourceSpec(checkpoint="none", digest="0", epoch=0, arch={}, classes_dropped=0)
    shape, feature = InputSpec(height=HEIGHT, width=WIDTH), OutputSpec(name=output, feature_dim=DIM)
    write_exported(folder, ExportedModel(input=shape, output=feature, source=source, graphs=[graph]))
    return folder
