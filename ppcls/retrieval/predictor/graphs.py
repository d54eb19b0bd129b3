"""Which file of an exported model's folder a backend runs, and whether it is the file that was exported."""

from __future__ import annotations

from pathlib import Path

from ppcls.configs.exported import SIDECAR, ExportedModel, GraphFile
from ppcls.utils.errors import UserError
from ppcls.utils.files import digest_file

KIND_OF_BACKEND = {"onnxruntime": "onnx", "openvino": "onnx", "paddle": "paddle"}
PRECISIONS = ("fp32", "fp16", "int8", "bf16")


def find_graph(model: ExportedModel, backend: str, precision: str) -> GraphFile | None:
    """The sidecar's graph that ``backend`` runs for ``precision``; None if the export did not write one.

    bf16 is a way to compute, not a file: the fp32 graph serves for it.
    """
    stored = "fp32" if precision == "bf16" else precision
    wanted = (KIND_OF_BACKEND[backend], stored)
    return next((graph for graph in model.graphs if (graph.kind, graph.precision) == wanted), None)


def check_files(folder: Path, graph: GraphFile) -> None:
    """The files of ``graph`` are there and are those that the sidecar was written for.

    Raises:
        UserError: a file is missing, has been changed since the export, or is named with a path.
    """
    for name in filter(None, (graph.model, graph.params)):
        if Path(name).name != name:
            raise UserError(f"{folder / SIDECAR} names {name!r}; graphs must lie in the folder itself")
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing, though {SIDECAR} names it; export the model anew")
        expected = graph.digests.get(name)
        if expected and digest_file(path, len(expected)) != expected:
            raise UserError(
                f"{path} is not the file that {SIDECAR} was written for (its digest differs): it was replaced or "
                "damaged; export the model anew"
            )
