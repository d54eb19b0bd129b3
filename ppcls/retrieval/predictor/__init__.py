"""Exported models behind one face: Paddle Inference, onnxruntime or OpenVINO.

Importing it imports none of them, and not paddle.
"""

from ppcls.retrieval.predictor.base import Predictor, example_batch
from ppcls.retrieval.predictor.files import FileBatch, embed_files
from ppcls.retrieval.predictor.images import embed_images, embed_rows, preprocess
from ppcls.retrieval.predictor.opening import BACKENDS, open_predictor

__all__ = [
    "BACKENDS",
    "FileBatch",
    "Predictor",
    "embed_files",
    "embed_images",
    "embed_rows",
    "example_batch",
    "open_predictor",
    "preprocess",
]
