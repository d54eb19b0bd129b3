"""Small operations on ONNX graphs that the conversions share."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime

_ERRORS_ONLY = 3


def session(path: Path, optimised: Path | None = None) -> onnxruntime.InferenceSession:
    """A graph in onnxruntime on the CPU; ``optimised``: where to write it after optimisations that stay plain ONNX."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = _ERRORS_ONLY
    if optimised is not None:
        settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        settings.optimized_model_filepath = str(optimised)
    return onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])


def fold(source: Path, target: Path) -> onnx.ModelProto:
    """``source`` with batch norms folded into the convolutions before them and constants computed; uses ``target``."""
    session(source, target)
    return onnx.load(str(target))


def finish(model: onnx.ModelProto, nodes: list[onnx.NodeProto], target: Path) -> None:
    """Give ``model`` these nodes in a valid order, drop constants that nothing reads, check it and write it."""
    read = {name for node in nodes for name in node.input} | {value.name for value in model.graph.output}
    nodes = [node for node in nodes if node.op_type != "Constant" or read.intersection(node.output)]
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in read]
    del model.graph.initializer[:], model.graph.node[:]
    model.graph.initializer.extend(tensors)
    model.graph.node.extend(_ordered(model, nodes))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(target))


def replace(names, old: str, new: str) -> None:
    """Put ``new`` for ``old`` into a node's list of inputs or outputs."""
    for index, name in enumerate(names):
        if name == old:
            names[index] = new


def _ordered(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """Every node behind those whose outputs it reads."""
    ready = {tensor.name for tensor in model.graph.initializer} | {value.name for value in model.graph.input} | {""}
    ordered, waiting = [], nodes
    while waiting:
        now = [node for node in waiting if ready.issuperset(node.input)]
        if not now:
            raise ValueError(f"node {waiting[0].name!r} reads what no node gives")
        ready.update(name for node in now for name in node.output)
        ordered += now
        waiting = [node for node in waiting if not ready.issuperset(node.output)]
    return ordered
