"""Exported models through Paddle Inference."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ppcls.configs.exported import ExportedModel, GraphFile
from ppcls.retrieval.predictor.base import NoDevice, Predictor, first_line
from ppcls.utils.errors import UserError
from ppcls.utils.tuning import apply_cpu_tuning, import_paddle_quietly

_GPU_MEMORY_MB = 500


class PaddlePredictor(Predictor):
    """Runs ``inference.json`` (PIR) or ``inference.pdmodel`` with its weights.

    Raises:
        UserError: the files are no Paddle model, or a GPU is asked for where there is none.
    """

    backend = "paddle"
    _refusals = (ValueError, RuntimeError, OSError)

    def __init__(
        self,
        folder: Path,
        model: ExportedModel,
        graph: GraphFile,
        *,
        use_gpu: bool,
        cpu_threads: int,
        enable_mkldnn: bool,
        precision: str,
    ):
        super().__init__(model, graph, device="gpu" if use_gpu else "cpu", cpu_threads=cpu_threads, precision=precision)
        apply_cpu_tuning()
        import_paddle_quietly()
        import paddle
        from paddle import inference

        self.version = paddle.__version__
        self.enable_mkldnn = enable_mkldnn
        if not graph.params:
            raise UserError(f"{folder}: the sidecar names no weights for {graph.model}; export the model anew")
        if use_gpu and not (paddle.is_compiled_with_cuda() and paddle.device.cuda.device_count()):
            raise NoDevice("no GPU that this build of paddle can use; leave --use-gpu out")
        config = inference.Config(str(folder / graph.model), str(folder / graph.params))
        self._configure(config, paddle.inference.PrecisionType)
        try:
            self._predictor = inference.create_predictor(config)
        except self._refusals as error:
            raise UserError(f"{folder / graph.model} is no model that paddle can load: {first_line(error)}") from error
        self._input = self._predictor.get_input_handle(self._predictor.get_input_names()[0])
        self._output = self._predictor.get_output_handle(self._predictor.get_output_names()[0])

    def _configure(self, config, precisions) -> None:
        config.disable_glog_info()
        if self.device == "gpu":
            half = precisions.Half if self.precision == "fp16" else precisions.Float32
            config.enable_use_gpu(_GPU_MEMORY_MB, 0, half)
        else:
            config.disable_gpu()
            config.set_cpu_math_library_num_threads(self.cpu_threads)
            if not self.enable_mkldnn:
                config.disable_mkldnn()
            else:
                config.enable_mkldnn()
                if self.precision == "bf16":
                    config.enable_mkldnn_bfloat16()
        if self.graph.model.endswith(".json"):  # memory optimisation of PIR programs needs both of these
            config.enable_new_executor(True)
            config.enable_new_ir(True)
        config.enable_memory_optim(True)

    def _forward(self, batch: np.ndarray) -> np.ndarray:
        self._input.copy_from_cpu(batch)
        self._predictor.run()
        return self._output.copy_to_cpu()

    def close(self) -> None:
        self._input = self._output = self._predictor = None
