"""From an exported model's folder to a predictor: which backend, which graph."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from ppcls.configs.exported import ExportedModel, read_exported
from ppcls.retrieval.predictor.base import BrokenBackend, NoDevice, Predictor, first_line
from ppcls.retrieval.predictor.graphs import PRECISIONS, check_files, find_graph
from ppcls.utils.errors import UserError
from ppcls.utils.logger import get_logger
from ppcls.utils.registry import nearest
from ppcls.utils.tuning import usable_cores

# Fastest first, measured on ResNet-50 at 256 × 128 (benchmarks/README.md).
BACKENDS = ("openvino", "onnxruntime", "paddle")
PARITY_LIMIT = 1e-4
"""Of the largest difference to the training network, as a share of its largest output: what "auto" insists on."""

_PACKAGES = {"paddle": "paddlepaddle"}


def open_predictor(
    model_dir: str | Path,
    backend: str = "auto",
    *,
    use_gpu: bool = False,
    cpu_threads: int = 0,
    enable_mkldnn: bool = True,
    precision: str = "fp32",
) -> Predictor:
    """Load an exported model, run it once and return it.

    Args:
        model_dir: folder that ``tools/export_model.py`` wrote.
        backend: "paddle", "onnxruntime", "openvino", or "auto": the fastest whose package is installed, whose graph
            is in the folder and whose answers are the training network's. The log says which it is.
        use_gpu: the first GPU instead of the processor.
        cpu_threads: threads of a forward pass; 0 takes every usable core.
        enable_mkldnn: oneDNN kernels; only the paddle backend can do without.
        precision: "fp32", "fp16" or "int8" takes that graph of the folder; "bf16" computes the fp32 graph in
            bfloat16 (paddle and openvino) and does not pass the parity gate.

    Raises:
        UserError: no exported model there, files that are not the exported ones, a backend that is not installed or
            has no such graph, no such GPU.
    """
    folder = Path(model_dir)
    if precision not in PRECISIONS:
        raise UserError(f"unknown precision {precision!r}; choose one of: {', '.join(PRECISIONS)}")
    if cpu_threads < 0:
        raise UserError(f"cpu_threads is {cpu_threads}; give a number of threads, or 0 for every usable core")
    threads = cpu_threads or usable_cores()
    request = _Request(folder, read_exported(folder), use_gpu, threads, enable_mkldnn, precision)
    predictor = _first_that_fits(request) if backend == "auto" else _named(request, backend)
    get_logger().info(
        "%s %s runs %s on the %s, %d thread(s), %s",
        predictor.backend, predictor.version, folder / predictor.graph.model, predictor.device.upper(), threads,
        precision,
    )  # fmt: skip
    return predictor


@dataclass(frozen=True)
class _Request:
    """What was asked for, whichever backend gives it."""

    folder: Path
    model: ExportedModel
    use_gpu: bool
    cpu_threads: int
    enable_mkldnn: bool
    precision: str


def _named(request: _Request, backend: str) -> Predictor:
    if backend not in BACKENDS:
        raise UserError(f"unknown backend {backend!r}{nearest(backend, ['auto', *BACKENDS])}")
    if problem := _obstacle(request, backend):
        raise UserError(problem)
    if doubt := _inexact(request, backend):
        get_logger().warning("%s", doubt)
    return _load(request, backend)


def _first_that_fits(request: _Request) -> Predictor:
    if not any(find_graph(request.model, name, request.precision) for name in BACKENDS):
        raise UserError(f"{request.folder} holds no {request.precision} graph ({_held(request.model)}); export one")
    reasons = []
    for name in BACKENDS:
        problem = _obstacle(request, name) or _inexact(request, name)
        if problem is None:
            try:
                return _load(request, name)
            except NoDevice as error:
                problem = str(error)
            except BrokenBackend as error:
                problem = str(error)
                get_logger().warning("%s", problem)
        reasons.append(f"{name}: {problem}")
    raise UserError(f"no backend can run {request.folder}: {'; '.join(reasons)}")


def _obstacle(request: _Request, backend: str) -> str | None:
    """Why this backend cannot do what is asked; None if nothing is in the way."""
    if not request.enable_mkldnn and backend != "paddle":
        return f"oneDNN (--enable-mkldnn) can only be switched off for the paddle backend, not for {backend}"
    if request.precision == "bf16" and backend == "onnxruntime":
        return "onnxruntime does not compute in bf16 on processors; use the paddle or openvino backend"
    if find_graph(request.model, backend, request.precision) is None:
        return f"{request.folder} holds no {request.precision} graph for {backend} ({_held(request.model)}); export one"
    if importlib.util.find_spec(backend) is None:
        return f"backend {backend} is not installed: pip install {_PACKAGES.get(backend, backend)}"
    return None


def _inexact(request: _Request, backend: str) -> str | None:
    """Why this backend's answers are not within the parity gate, if they are known not to be."""
    if backend == "openvino" and request.model.input.layout == "NHWC":
        return "openvino resizes in float32 where the graph asks for float64: its outputs differ by up to 1e-3"
    graph = find_graph(request.model, backend, request.precision)
    difference = graph.parity.get("relative_difference", 0.0)
    if graph.precision == "fp32" and not difference <= PARITY_LIMIT:
        return f"{graph.model} did not pass the parity gate at its export: its outputs differ by {difference:.1e}"
    return None


def _load(request: _Request, backend: str) -> Predictor:
    """Backends are imported where they are used: none of them may cost the others its import time."""
    graph = find_graph(request.model, backend, request.precision)
    check_files(request.folder, graph)
    settings = {name: getattr(request, name) for name in ("use_gpu", "cpu_threads", "precision")}
    if backend == "paddle":
        from ppcls.retrieval.predictor.paddle_backend import PaddlePredictor as Backend

        settings["enable_mkldnn"] = request.enable_mkldnn
    elif backend == "onnxruntime":
        from ppcls.retrieval.predictor.onnxruntime_backend import OnnxRuntimePredictor as Backend
    else:
        from ppcls.retrieval.predictor.openvino_backend import OpenVinoPredictor as Backend
    try:
        predictor = Backend(request.folder, request.model, graph, **settings)
    except ImportError as error:
        raise BrokenBackend(
            f"backend {backend} is installed but cannot be imported ({first_line(error)}); install it anew"
        ) from error
    predictor.prove()
    return predictor


def _held(model: ExportedModel) -> str:
    held = [f"{graph.model}: {graph.kind} {graph.precision}" for graph in model.graphs]
    return f"it holds {', '.join(held) or 'none at all'}"
