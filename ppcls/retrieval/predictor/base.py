"""What every backend of an exported model offers, and the checks they share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType

import numpy as np

from ppcls.configs.exported import ExportedModel, GraphFile
from ppcls.utils.errors import UserError


class NoDevice(UserError):
    """A backend cannot use the GPU that was asked for."""


class BrokenBackend(UserError):
    """A backend is installed but cannot be imported."""


class Predictor(ABC):
    """An exported network, loaded: batches of images in, embeddings out. A context manager.

    Not thread-safe: one thread at a time may call :meth:`run`.

    Attributes:
        model: the sidecar; graph: the file of it that runs.
        backend: "paddle", "onnxruntime" or "openvino"; device: "cpu" or "gpu"; precision: of the arithmetic.
        cpu_threads: threads of one forward pass.
        version: of the backend's package.
    """

    backend: str
    version: str
    _refusals: tuple[type[Exception], ...]
    """What the backend raises for a graph that it cannot load or run."""

    def __init__(self, model: ExportedModel, graph: GraphFile, *, device: str, cpu_threads: int, precision: str):
        self.model, self.graph = model, graph
        self.device, self.cpu_threads, self.precision = device, cpu_threads, precision

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Embeddings float32 [N, D] of ``batch``, N ≥ 1, in memory of their own.

        ``batch``: float32 [N, 3, H, W], resized and normalised, or, for an NHWC model, uint8 RGB [N, h, w, 3] of any
        size (:func:`ppcls.retrieval.predictor.preprocess` makes either).

        Raises:
            UserError: a batch of another type or shape, an output of another shape than the sidecar says or that is not
                finite.
        """
        self._check(batch)
        embeddings = self._forward(np.ascontiguousarray(batch))
        expected = (len(batch), self.model.output.feature_dim)
        if embeddings.shape != expected:
            raise UserError(
                f"{self.graph.model} gives an output of shape {embeddings.shape}, its sidecar promises {expected}; "
                "export the model anew"
            )
        if not np.isfinite(embeddings).all():
            remedy = "an input is not, or they overflow" if self.precision == "fp32" else "take a higher precision"
            raise UserError(f"{self.graph.model} gives values that are not finite; {remedy}")
        return embeddings.astype(np.float32, copy=False)

    def prove(self) -> None:
        """Run one black image, which also warms the backend up.

        Raises:
            UserError: the graph does not take what the sidecar says, or gives something else.
        """
        try:
            self.run(example_batch(self.model))
        except self._refusals as error:
            raise UserError(
                f"{self.graph.model} does not run on the input that its sidecar describes: {first_line(error)}; "
                "export the model anew"
            ) from error

    @abstractmethod
    def _forward(self, batch: np.ndarray) -> np.ndarray:
        """The graph's one output for a C-contiguous, checked batch; an array that later calls leave alone."""

    @abstractmethod
    def close(self) -> None:
        """Free the network's memory; nothing runs afterwards."""

    def __enter__(self) -> Predictor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, batch: np.ndarray) -> None:
        spec = self.model.input
        if spec.layout == "NCHW":
            kind, shape = np.float32, (3, spec.height, spec.width)
            right = batch.shape[1:] == shape
        else:
            kind, shape = np.uint8, ("height", "width", 3)
            right = batch.ndim == 4 and batch.shape[3] == 3 and 0 not in batch.shape
        if batch.dtype != kind or not right or not len(batch):
            raise UserError(
                f"a batch of {batch.dtype} {list(batch.shape)}; this model takes {np.dtype(kind)} "
                f"[N, {', '.join(map(str, shape))}], N at least 1"
            )


def first_line(error: Exception) -> str:
    """A backend's reason, without the trace that it may print around it."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("---", "Exception from", "C++ Traceback"))]
    return next((line for line in said if "Error: " in line or line.startswith("(")), said[0] if said else "no reason")


def example_batch(model: ExportedModel, size: int = 1) -> np.ndarray:
    """``size`` black images as :meth:`Predictor.run` takes them, for warming up."""
    spec = model.input
    if spec.layout == "NHWC":
        return np.zeros((size, spec.height, spec.width, 3), np.uint8)
    return np.zeros((size, 3, spec.height, spec.width), np.float32)
