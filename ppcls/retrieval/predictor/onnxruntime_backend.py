"""Exported ONNX graphs through onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ppcls.configs.exported import ExportedModel, GraphFile
from ppcls.retrieval.predictor.base import NoDevice, Predictor, first_line
from ppcls.utils.errors import UserError

_ERRORS_ONLY = 3


class OnnxRuntimePredictor(Predictor):
    """Runs ``inference*.onnx``.

    Raises:
        UserError: the file is no ONNX model, or a GPU is asked for where onnxruntime has none.
    """

    backend = "onnxruntime"

    def __init__(
        self, folder: Path, model: ExportedModel, graph: GraphFile, *, use_gpu: bool, cpu_threads: int, precision: str
    ):
        super().__init__(model, graph, device="gpu" if use_gpu else "cpu", cpu_threads=cpu_threads, precision=precision)
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as errors

        self._refusals = (
            errors.Fail, errors.InvalidArgument, errors.InvalidGraph, errors.InvalidProtobuf, errors.NotImplemented,
            errors.RuntimeException,
        )  # fmt: skip
        self.version = onnxruntime.__version__
        wanted = "CUDAExecutionProvider" if use_gpu else "CPUExecutionProvider"
        if wanted not in onnxruntime.get_available_providers():
            raise NoDevice("no GPU that this build of onnxruntime can use; leave --use-gpu out")
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = cpu_threads
        settings.inter_op_num_threads = 1
        settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        # Threads that wait by spinning take the cores from decoding, searching and serving, which run beside them.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.log_severity_level = _ERRORS_ONLY
        try:
            self._session = onnxruntime.InferenceSession(str(folder / graph.model), settings, providers=[wanted])
        except self._refusals as error:
            raise UserError(
                f"{folder / graph.model} is no model that onnxruntime can load: {first_line(error)}"
            ) from error
        self._input = self._session.get_inputs()[0].name

    def _forward(self, batch: np.ndarray) -> np.ndarray:
        return self._session.run(None, {self._input: batch})[0]

    def close(self) -> None:
        self._session = None
