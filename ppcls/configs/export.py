"""Options of ``tools/export_model.py``."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from ppcls.configs.options import option
from ppcls.configs.schema import StoredNetOptions

_WHAT, _NET, _FORM, _CHECK = "what to export", "network", "form of the exported model", "how it is checked"
_REDUCED = ("fp16", "int8")


class ExportOptions(StoredNetOptions):
    """``tools/export_model.py``: a checkpoint becomes a model that runs without this project's code."""

    ckpt: str = option("logs", "-c", "--ckpt", help="run folder, or checkpoint file", group=_WHAT)
    pretrained: str | None = option(None, "--pretrained", help="PaddleClas' name of --ckpt", group=_WHAT)
    save_inference_dir: str = option(
        "inference",
        "--save-inference-dir",
        "--save_inference_dir",
        help="folder of the exported model; an older export in it is replaced, anything else is left alone",
        group=_WHAT,
    )
    model_name: str = option("reid", "--model-name", help="name that services show", group=_WHAT, min_length=1)

    height: int | None = option(None, "--height", help="input height; the training run's, else 256", group=_NET, ge=16)
    width: int | None = option(None, "--width", help="input width; the training run's, else 128", group=_NET, ge=8)
    domain: int | None = option(
        None, "--domain", help="whose statistics a network with one set per domain uses; else 0", group=_NET, ge=0
    )

    format: Literal["json", "pdmodel"] = option(
        "json", "--format", help="json: Paddle 3; pdmodel: for hosts with an older Paddle", group=_FORM
    )
    feature: Literal["embedding", "global"] = option(
        "embedding", "--feature", help="output after the neck, or before it", group=_FORM
    )
    normalise: bool = option(
        False, "--normalise", "--normalize", help="L2-normalise the output in the graph", group=_FORM
    )
    preprocess_in_graph: bool = option(
        False,
        "--preprocess-in-graph",
        help="the graph takes uint8 RGB pictures [N, h, w, 3] of any size and resizes and normalises them itself",
        group=_FORM,
    )
    onnx: bool = option(False, "--onnx", help="write inference.onnx (opset 17) as well", group=_FORM)
    precision: Literal["fp32", "fp16", "int8"] = option(
        "fp32", "--precision", help="with --onnx: a smaller ONNX graph beside the fp32 one", group=_FORM
    )

    dataset: str | None = option(
        None, "--dataset", help="compare on its query and gallery images (names as tools/main.py)", group=_CHECK
    )
    data_root: str = option("data", "--data-root", help="folder that holds the data sets", group=_CHECK)
    images: str | None = option(
        None,
        "--images",
        help="an image, or a folder of them, to compare on; beside --dataset: what int8 is calibrated on",
        group=_CHECK,
    )
    limit: int = option(
        0, "--limit", help="compare on at most so many images of --images or --dataset; 0: on all", group=_CHECK, ge=0
    )
    max_map_drop: float = option(
        1.0, "--max-map-drop", help="mAP points that fp16 or int8 may cost", group=_CHECK, ge=0, le=100
    )
    calibration_images: int = option(
        256, "--calibration-images", help="at most so many images give int8 its ranges", group=_CHECK, ge=8
    )
    gpu: list[str] = option(
        ["cpu"], "-g", "--gpu", help="where the training network runs for the comparison", group=_CHECK
    )
    batch_size: int = option(32, "-b", "--batch-size", help="images in its batches", group=_CHECK, ge=1)
    workers: int = option(2, "--workers", "-j", help="decoding threads", group=_CHECK, ge=0)

    @model_validator(mode="after")
    def _consistent(self) -> ExportOptions:
        if self.pretrained and "ckpt" in self.model_fields_set and self.ckpt != self.pretrained:
            raise ValueError("--ckpt and --pretrained name different checkpoints; give one of them")
        if self.precision in _REDUCED and not self.onnx:
            raise ValueError(
                f"--precision {self.precision} is a form of the ONNX graph: add --onnx (Paddle's own conversion to "
                "fp16 needs a CUDA build of it)"
            )
        if self.precision == "int8" and not (self.dataset or self.images):
            raise ValueError("--precision int8 is calibrated on real images: give --dataset or --images")
        return self

    @property
    def checkpoint(self) -> str:
        """The checkpoint under whichever name it was given."""
        return self.pretrained or self.ckpt
