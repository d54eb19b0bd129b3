"""Options of everything that runs an exported model: commands on files, and the service."""

from __future__ import annotations

from typing import Literal

from ppcls.configs.options import Options, option

_MODEL = "model"


class PredictorOptions(Options):
    """Which exported model, and how it is run."""

    model_dir: str = option("inference", "--model-dir", help="folder that tools/export_model.py wrote", group=_MODEL)
    backend: Literal["auto", "onnxruntime", "openvino", "paddle"] = option(
        "auto", "--backend", help="auto: the fastest that is installed and has its graph in the folder", group=_MODEL
    )
    use_gpu: bool = option(False, "--use-gpu", help="the first GPU instead of the processor", group=_MODEL)
    cpu_threads: int = option(
        0, "--cpu-threads", help="threads of a forward pass; 0: every usable core", group=_MODEL, ge=0
    )
    enable_mkldnn: bool = option(
        True, "--enable-mkldnn", help="oneDNN kernels; only the paddle backend can do without", group=_MODEL
    )
    precision: Literal["fp32", "fp16", "int8", "bf16"] = option(
        "fp32",
        "--precision",
        help="graph of the folder; bf16 computes the fp32 graph in bfloat16 (paddle, openvino), 0.5 % less exactly",
        group=_MODEL,
    )
