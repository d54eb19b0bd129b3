"""An ONNX graph with half-precision weights and arithmetic; its input and output stay as they are."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

from onnxruntime.transformers import float16

from ppcls.export.onnx_graph import finish, fold


def halve(source: Path, target: Path, scratch: Path) -> None:
    """Write the fp16 form of the fp32 graph ``source`` to ``target``; ``scratch`` is an empty folder.

    Runtimes without half-precision kernels, such as onnxruntime on x86 processors, widen the values again: there the
    file is half as large, but not faster.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one per weight that is too small for half precision
        logging.getLogger(float16.__name__).setLevel(logging.ERROR)
        model = float16.convert_float_to_float16(fold(source, scratch / "folded.onnx"), keep_io_types=True)
    finish(model, list(model.graph.node), target)
