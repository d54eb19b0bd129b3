"""From pictures to a predictor's batches; the arithmetic is that of evaluation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import numpy as np
from PIL import Image

from ppcls.configs.exported import ExportedModel
from ppcls.data.transform import EvalTransform
from ppcls.retrieval.predictor.base import Predictor
from ppcls.utils.errors import UserError


def preprocess(model: ExportedModel) -> Callable[[Image.Image], np.ndarray]:
    """The function that turns a picture of any size and mode into one row of the model's input.

    NCHW models: :class:`ppcls.data.transform.EvalTransform` with the sidecar's numbers, float32 [3, H, W].
    NHWC models, which do it in the graph: the RGB pixels, uint8 [h, w, 3].
    """
    spec = model.input
    if spec.layout == "NHWC":
        return _pixels
    return EvalTransform(spec.height, spec.width, spec.mean, spec.std)


def embed_images(predictor: Predictor, images: Sequence[Image.Image]) -> np.ndarray:
    """Embeddings float32 [N, D] of pictures of any size, in order, in as few forward passes as their shapes allow.

    Raises:
        UserError: no picture.
    """
    if not len(images):
        raise UserError("no image to embed")
    transform = preprocess(predictor.model)
    return embed_rows(predictor, [transform(image) for image in images])


def embed_rows(predictor: Predictor, rows: Sequence[np.ndarray]) -> np.ndarray:
    """Embeddings float32 [N, D] of preprocessed pictures; neighbours of equal shape share a forward pass."""
    return np.concatenate([predictor.run(batch) for batch in stacked(rows)])


def stacked(rows: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Preprocessed pictures as batches of one shape each, in order: a single batch unless the graph resizes."""
    return [np.stack(list(same)) for _, same in groupby(rows, key=np.shape)]


def _pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
