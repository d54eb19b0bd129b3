"""Exported ONNX graphs through OpenVINO."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ppcls.configs.exported import ExportedModel, GraphFile
from ppcls.retrieval.predictor.base import NoDevice, Predictor, first_line
from ppcls.utils.errors import UserError


class OpenVinoPredictor(Predictor):
    """Runs ``inference*.onnx``.

    Raises:
        UserError: the file is no ONNX model; OpenVINO sees no GPU, or the processor has no bfloat16, and one was
            asked for.
    """

    backend = "openvino"

    def __init__(
        self, folder: Path, model: ExportedModel, graph: GraphFile, *, use_gpu: bool, cpu_threads: int, precision: str
    ):
        super().__init__(model, graph, device="gpu" if use_gpu else "cpu", cpu_threads=cpu_threads, precision=precision)
        import openvino
        from openvino import frontend

        self._refusals = (
            RuntimeError, frontend.GeneralFailure, frontend.NotImplementedFailure, frontend.OpConversionFailure,
            frontend.OpValidationFailure,
        )  # fmt: skip
        self.version = openvino.__version__.partition("-")[0]
        core = openvino.Core()
        device = "GPU" if use_gpu else "CPU"
        if use_gpu and not any(name.startswith("GPU") for name in core.available_devices):
            raise NoDevice("no GPU that OpenVINO can use; leave --use-gpu out")
        if precision == "bf16" and "BF16" not in core.get_property(device, "OPTIMIZATION_CAPABILITIES"):
            raise UserError("this processor has no bfloat16 arithmetic; leave --precision bf16 out")
        # Without the hint OpenVINO computes in bfloat16 where it can, and loses 0.5 % of the largest output.
        settings = {"INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32", "PERFORMANCE_HINT": "LATENCY"}
        if not use_gpu:
            settings["INFERENCE_NUM_THREADS"] = cpu_threads
        try:
            # By name: left to guess, OpenVINO tries every format on a damaged file, and each of them complains.
            reader = frontend.FrontEndManager().load_by_framework("onnx")
            network = reader.convert(reader.load(str(folder / graph.model)))
            if not network.outputs:  # what an empty file gives
                raise RuntimeError("it has no output")
            self._request = core.compile_model(network, device, settings).create_infer_request()
        except self._refusals as error:
            raise UserError(
                f"{folder / graph.model} is no model that OpenVINO can load: {first_line(error)}"
            ) from error

    def _forward(self, batch: np.ndarray) -> np.ndarray:
        self._request.infer([batch])
        return self._request.get_output_tensor(0).data.copy()  # the tensor is overwritten by the next call

    def close(self) -> None:
        self._request = None
