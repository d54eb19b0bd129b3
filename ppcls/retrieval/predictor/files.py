"""Image files → embeddings through a predictor; threads decode the next batches while one is computed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ppcls.data.image import load_image
from ppcls.data.prefetch import Cancelled, run_ahead
from ppcls.retrieval.predictor.base import Predictor
from ppcls.retrieval.predictor.images import preprocess, stacked
from ppcls.utils.errors import UserError


@dataclass
class FileBatch:
    """One batch of files.

    Attributes:
        paths: the files that could be read; embeddings: float32 [len(paths), D].
        failures: (file, reason) of those that could not.
        preprocess_seconds: decoding, resizing, normalising; of the thread that did it.
        inference_seconds: the forward pass.
    """

    paths: list[Path] = field(default_factory=list)
    embeddings: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    failures: list[tuple[Path, str]] = field(default_factory=list)
    preprocess_seconds: float = 0.0
    inference_seconds: float = 0.0


def embed_files(
    predictor: Predictor, paths: Sequence[Path], *, batch_size: int = 16, workers: int = 2, strict: bool = False
) -> Iterator[FileBatch]:
    """Embeddings of image files in order, ``batch_size`` files at a time, up to ``workers`` + 1 batches ahead.

    A file that cannot be decoded makes its batch smaller and is named in ``failures``; with ``strict`` it ends the
    iteration.

    Raises:
        UserError: the first unreadable file (``strict``); whatever :meth:`Predictor.run` refuses.
    """
    if batch_size < 1 or workers < 0:
        raise UserError(f"batch size ({batch_size}) must be positive and workers ({workers}) not negative")
    transform = preprocess(predictor.model)
    parts = (paths[start : start + batch_size] for start in range(0, len(paths), batch_size))
    jobs = (partial(_read, part, transform, strict) for part in parts)
    none = np.empty((0, predictor.model.output.feature_dim), np.float32)
    for batch, inputs in run_ahead(jobs, workers):
        start = time.perf_counter()
        batch.embeddings = np.concatenate([predictor.run(part) for part in inputs]) if inputs else none
        batch.inference_seconds = time.perf_counter() - start
        yield batch


def _read(
    paths: Sequence[Path], transform: Callable[[Image.Image], np.ndarray], strict: bool, stop: threading.Event
) -> tuple[FileBatch, list[np.ndarray]]:
    batch, rows, start = FileBatch(), [], time.perf_counter()
    for path in paths:
        if stop.is_set():
            raise Cancelled
        try:
            rows.append(transform(load_image(str(path))))
        except UserError as error:
            if strict:
                raise
            batch.failures.append((path, str(error)))
        else:
            batch.paths.append(path)
    inputs = stacked(rows)
    batch.preprocess_seconds = time.perf_counter() - start
    return batch, inputs
