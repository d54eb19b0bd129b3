"""The sidecar of an exported model: everything a predictor must know beside the graph (``inference.yml``).

Whoever holds the folder needs neither the training code's options nor the checkpoint.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from ppcls.configs.options import Options, read_yaml, validate
from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_write_text

SIDECAR = "inference.yml"
FORMAT = 1


class InputSpec(Options):
    """What the graph's one input takes."""

    name: str = "x"
    height: int = Field(ge=1, description="pixels; images are resized to it, by the caller or in the graph")
    width: int = Field(ge=1)
    layout: Literal["NCHW", "NHWC"] = Field(
        "NCHW", description="NCHW: float32, resized and normalised; NHWC: uint8 RGB of any size"
    )
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class OutputSpec(Options):
    """What the graph's one output gives: float32 [N, feature_dim]."""

    name: str
    feature_dim: int = Field(ge=1)
    feature: Literal["embedding", "global"] = Field("embedding", description="after the neck, or before it")
    normalised: bool = Field(False, description="rows have L2 norm 1")


class SourceSpec(Options):
    """Where the weights came from."""

    checkpoint: str = Field(description="file name, without its folder")
    digest: str = Field(description="ppcls.utils.files.digest_file of the checkpoint")
    epoch: int
    arch: dict[str, Any] = Field(description="the checkpoint's own architecture entry")
    classes_dropped: int = Field(ge=0, description="persons of the classifier, which is not exported")


class GraphFile(Options):
    """One runnable form of the network in the folder."""

    kind: Literal["paddle", "onnx"]
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    model: str = Field(description="file name in the folder: *.json, *.pdmodel or *.onnx")
    params: str | None = Field(None, description="file name of the weights, where they are a file of their own")
    digests: dict[str, str] = Field(default_factory=dict, description="file name → digest_file of it")
    parity: dict[str, float] = Field(
        default_factory=dict,
        description="figures of the parity gate: images, relative_difference and, with ids, map_training and "
        "map_exported (fractions of 1)",
    )


class ExportedModel(Options):
    """A whole sidecar."""

    format: Literal[1] = FORMAT
    name: str = "reid"
    input: InputSpec
    output: OutputSpec
    source: SourceSpec
    graphs: list[GraphFile]


def read_exported(folder: str | Path) -> ExportedModel:
    """The sidecar of an exported model's folder.

    Raises:
        UserError: no such folder, no sidecar in it, or one that is not valid.
    """
    path = Path(folder) / SIDECAR
    if not path.is_file():
        raise UserError(f"{folder} holds no exported model ({SIDECAR} is missing); make one with tools/export_model.py")
    return validate(ExportedModel, read_yaml(path), str(path))


def write_exported(folder: str | Path, model: ExportedModel) -> None:
    """Write the sidecar, last of an export's files: a folder without it is not an exported model."""
    text = yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    atomic_write_text(Path(folder) / SIDECAR, text)
