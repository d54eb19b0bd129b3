"""What can be searched for the nearest images: a persistent gallery, or embeddings in memory."""

from __future__ import annotations

import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ppcls.metric.distance import as_features, squared_norms
from ppcls.retrieval.gallery import Gallery, nearest_rows
from ppcls.utils.errors import UserError


@dataclass(frozen=True)
class Found:
    """The nearest images of each query, nearest first.

    Attributes:
        ids: int64 [n, k], of the gallery, or positions in its list; distances: float32 [n, k], 1 − cosine.
        paths, labels: [n][k]; "" where unknown.
    """

    ids: np.ndarray
    distances: np.ndarray
    paths: list[list[str]]
    labels: list[list[str]]


class Neighbours(ABC):
    """A searchable set of embeddings float32 [m, D]."""

    @abstractmethod
    def find(self, embeddings: np.ndarray, k: int) -> Found:
        """The ``min(k, m)`` nearest of each of ``embeddings`` [n, D], by cosine; ties in the set's order."""


class StoredNeighbours(Neighbours):
    """A :class:`ppcls.retrieval.gallery.Gallery`."""

    def __init__(self, gallery: Gallery):
        self.gallery = gallery

    def find(self, embeddings: np.ndarray, k: int) -> Found:
        """As promised; sees what other processes commit meanwhile."""
        entries, scores = self.gallery.search_entries(embeddings, k)
        return Found(
            np.array([[entry.id for entry in row] for row in entries], np.int64).reshape(scores.shape),
            _distances(scores),
            [[entry.source for entry in row] for row in entries],
            [[entry.label for entry in row] for row in entries],
        )


class ListedNeighbours(Neighbours):
    """Paths [m] with their embeddings float32 [m, D]."""

    def __init__(self, paths: Sequence[str], embeddings: np.ndarray):
        self.paths, self.embeddings = list(paths), as_features(embeddings, "gallery embeddings")
        self._norms = squared_norms(self.embeddings, "gallery embeddings")

    def find(self, embeddings: np.ndarray, k: int) -> Found:
        """As promised."""
        rows, scores = nearest_rows(embeddings, self.embeddings, self._norms, None, k)
        paths = [[self.paths[row] for row in found] for found in rows.tolist()]
        return Found(rows, _distances(scores), paths, [[""] * len(found) for found in paths])


def _distances(cosines: np.ndarray) -> np.ndarray:
    """1 − cosine; rounding may put the cosine of equal rows a little above 1, and a distance is never negative."""
    return np.maximum(1.0 - cosines, np.float32(0))


def load_neighbours(path: Path, feature_dim: int, model_digest: str) -> ListedNeighbours:
    """Embeddings that an earlier run wrote to an ``.npz``.

    Raises:
        UserError: no such file, not such a file, another model's.
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            paths, embeddings = arrays["paths"].tolist(), arrays["embeddings"]
            made_with = str(arrays["model_digest"]) if "model_digest" in arrays.files else model_digest
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"cannot read embeddings from {path}: {error}") from error
    if made_with != model_digest:
        raise UserError(f"the embeddings in {path} are from another model; write them anew with this one")
    if embeddings.ndim != 2 or embeddings.shape != (len(paths), feature_dim):
        raise UserError(
            f"{path} holds embeddings {list(embeddings.shape)} of {len(paths)} images, not [images, {feature_dim}]"
        )
    return ListedNeighbours(paths, embeddings)
