"""Similarities and distances between feature sets, whole or in blocks of bounded size.

Features are float32 (other types are converted), norms are accumulated in float64, matrices are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ppcls.utils.errors import UserError

RANKING_METRICS = ("cosine", "euclidean")
DEFAULT_BLOCK_BYTES = 256 * 2**20
# A product is always cut into the same tiles, whatever the memory budget: BLAS may round a product
# differently when its shape changes, and a ranking must not depend on how much memory it was given.
TILE_ROWS = 512
TILE_COLUMNS = 16384
MINIMUM_BLOCK_BYTES = 4 * TILE_ROWS * TILE_COLUMNS
_NORM_ROWS = 1024
# Squared norms up to here keep every float32 product finite (float32 ends at 3.4e38).
_LARGEST_NORM = 1e37
_EPSILON = 1e-12


def as_features(features: np.ndarray, name: str = "features") -> np.ndarray:
    """``features`` as a C-contiguous float32 [N, D] array; copied only where type or layout demand it.

    Raises:
        UserError: not two-dimensional, or no row, or no column.
    """
    array = np.asarray(features)
    if array.ndim != 2 or 0 in array.shape:
        raise UserError(f"{name} has shape {array.shape}; expected [number of images, feature size], both above 0")
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, dtype=np.float32)


def feature_pair(query: np.ndarray, gallery: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both sets through :func:`as_features`; UserError when their feature sizes differ."""
    query, gallery = as_features(query, "query features"), as_features(gallery, "gallery features")
    if query.shape[1] != gallery.shape[1]:
        raise UserError(
            f"query features have {query.shape[1]} columns, gallery features {gallery.shape[1]}; "
            "extract both with the same model"
        )
    return query, gallery


def squared_norms(features: np.ndarray, name: str = "features") -> np.ndarray:
    """Squared L2 norm of every row, float64 [N], computed in row blocks.

    Raises:
        UserError: a row holds NaN or infinity (float32 squares cannot overflow in float64).
    """
    norms = np.empty(len(features), np.float64)
    for start in range(0, len(features), _NORM_ROWS):
        block = features[start : start + _NORM_ROWS].astype(np.float64)
        np.einsum("ij,ij->i", block, block, out=norms[start : start + _NORM_ROWS])
    bad = np.flatnonzero(~np.isfinite(norms))
    if bad.size:
        raise UserError(
            f"{name}: {bad.size} of {len(norms)} rows hold NaN or infinity (first: row {bad[0]}); "
            "check the weights that produced them"
        )
    return norms


def unit_rows(features: np.ndarray, name: str = "features") -> np.ndarray:
    """Rows divided by their length, float32 [N, D] (a copy); zero rows stay zero. Errors as :func:`squared_norms`."""
    features = as_features(features, name)
    return features * _inverse_norms(squared_norms(features, name))[:, None]


def _inverse_norms(norms: np.ndarray) -> np.ndarray:
    """1/‖x‖ as float32, and 0 for a zero row, so that its cosine with anything is 0."""
    length = np.sqrt(norms)
    return np.divide(1.0, length, out=np.zeros_like(length), where=length > _EPSILON).astype(np.float32)


@dataclass
class Scorer:
    """Ranking scores (greater = nearer) of query × gallery, tile by tile, without a copy of the gallery.

    "cosine" scores are cosine similarities. "euclidean" scores are q·g − ‖g‖²/2, which order a query's
    gallery as −‖q−g‖ does; ``squared_distance = ‖q‖² − 2·score``.
    """

    query: np.ndarray
    gallery: np.ndarray
    metric: str = "cosine"
    gallery_norms: np.ndarray | None = None
    """``squared_norms(gallery)`` where the caller knows them already: searching one gallery again and again."""

    def __post_init__(self) -> None:
        if self.metric not in RANKING_METRICS:
            raise UserError(f"unknown metric {self.metric!r}; choose one of {', '.join(RANKING_METRICS)}")
        self.query, self.gallery = feature_pair(self.query, self.gallery)
        self.query_norms = squared_norms(self.query, "query features")
        if self.gallery_norms is None:
            self.gallery_norms = squared_norms(self.gallery, "gallery features")
        if max(self.query_norms.max(), self.gallery_norms.max()) > _LARGEST_NORM:
            raise UserError("the features are too large for float32 scores; check the weights that produced them")
        if self.metric == "cosine":
            self._column = _inverse_norms(self.gallery_norms)
            self._row = _inverse_norms(self.query_norms)
        else:
            self._column = (0.5 * self.gallery_norms).astype(np.float32)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of queries and of gallery images."""
        return len(self.query), len(self.gallery)

    def tile(self, rows: slice, columns: slice, out: np.ndarray) -> np.ndarray:
        """Scores of one tile, float32, written to ``out`` and returned."""
        query = self.query[rows]
        if self.metric == "cosine":
            query = query * self._row[rows, None]
        np.matmul(query, self.gallery[columns].T, out=out)
        if self.metric == "cosine":
            return np.multiply(out, self._column[columns], out=out)
        return np.subtract(out, self._column[columns], out=out)


Parts = Callable[[], Iterator[tuple[int, np.ndarray]]]


class TileScorer(Protocol):
    """What :func:`score_strips` reads: scores of any origin, greater = nearer, tile by tile."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of queries and of gallery images."""

    def tile(self, rows: slice, columns: slice, out: np.ndarray) -> np.ndarray:
        """Finite scores of one tile, float32, written to ``out`` and returned."""


def score_strips(scorer: TileScorer, block_bytes: int = DEFAULT_BLOCK_BYTES) -> Iterator[tuple[slice, Parts]]:
    """Yield ``(query rows, parts)``; ``parts()`` iterates over ``(first gallery column, scores)``.

    ``parts`` may be called again, for readers that need two passes over the strip. A strip that fits
    ``block_bytes`` is one part computed once; else its tiles are computed at each call. The score buffer
    never exceeds ``max(block_bytes, 32 MiB)``; it is overwritten by the next part or strip.

    Scores do not depend on ``block_bytes`` (bit for bit).

    Raises:
        UserError: ``block_bytes`` is not positive.
    """
    if block_bytes <= 0:
        raise UserError(f"block_bytes is {block_bytes}; give a positive number of bytes")
    total, width = scorer.shape
    rows = min(TILE_ROWS, total)
    whole = 4 * rows * width <= max(block_bytes, MINIMUM_BLOCK_BYTES)
    buffer = np.empty((rows, width if whole else TILE_COLUMNS), np.float32)
    for start in range(0, total, rows):
        strip = slice(start, min(start + rows, total))
        yield strip, _computed_once(scorer, strip, buffer) if whole else _recomputed(scorer, strip, buffer)


def _column_tiles(width: int) -> Iterator[slice]:
    for start in range(0, width, TILE_COLUMNS):
        yield slice(start, min(start + TILE_COLUMNS, width))


def _computed_once(scorer: TileScorer, strip: slice, buffer: np.ndarray) -> Parts:
    scores = buffer[: strip.stop - strip.start]
    for columns in _column_tiles(scorer.shape[1]):
        scorer.tile(strip, columns, scores[:, columns])
    return lambda: iter([(0, scores)])


def _recomputed(scorer: TileScorer, strip: slice, buffer: np.ndarray) -> Parts:
    def parts() -> Iterator[tuple[int, np.ndarray]]:
        for columns in _column_tiles(scorer.shape[1]):
            out = buffer[: strip.stop - strip.start, : columns.stop - columns.start]
            yield columns.start, scorer.tile(strip, columns, out)

    return parts


def cosine_similarity(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """Cosine of every pair, float32 [Nq, Ng]; 0 for zero rows."""
    scorer = Scorer(query, gallery)
    out = np.empty((len(scorer.query), len(scorer.gallery)), np.float32)
    return scorer.tile(slice(None), slice(None), out)


def squared_euclidean(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """‖q−g‖² of every pair, float32 [Nq, Ng], never negative."""
    query, gallery = feature_pair(query, gallery)
    query_norms = squared_norms(query, "query features").astype(np.float32)
    gallery_norms = squared_norms(gallery, "gallery features").astype(np.float32)
    out = query @ gallery.T
    out *= -2
    out += query_norms[:, None]
    out += gallery_norms
    return np.maximum(out, 0, out=out)


def euclidean(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """‖q−g‖ of every pair, float32 [Nq, Ng]."""
    out = squared_euclidean(query, gallery)
    return np.sqrt(out, out=out)


def reference_cosine_distance(query: np.ndarray, gallery: np.ndarray) -> np.ndarray:
    """1/(1 + cosine), float32 [Nq, Ng]: the "cosine distance" of the AGD reference code.

    Falls as the cosine grows, so it ranks as :func:`cosine_similarity` does. Infinite for opposite vectors:
    use it to compare with published numbers, not as a distance.
    """
    out = cosine_similarity(query, gallery)
    np.clip(out, -1, 1, out=out)
    out += 1
    with np.errstate(divide="ignore"):
        return np.divide(1, out, out=out)


_WHOLE = {
    "cosine": cosine_similarity,
    "euclidean": euclidean,
    "squared": squared_euclidean,
    "reference": reference_cosine_distance,
}


def blocks(
    query: np.ndarray, gallery: np.ndarray, metric: str = "cosine", block_bytes: int = DEFAULT_BLOCK_BYTES
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield ``(query rows, matrix [rows, Ng])``: float32, at most ``block_bytes`` (or one row).

    ``metric``: "cosine" (similarity), "euclidean", "squared" (Euclidean) or "reference" (1/(1+cosine)).

    Raises:
        UserError: unknown metric, ``block_bytes`` not positive, shapes that disagree, features not finite.
    """
    if metric not in _WHOLE:
        raise UserError(f"unknown metric {metric!r}; choose one of {', '.join(_WHOLE)}")
    if block_bytes <= 0:
        raise UserError(f"block_bytes is {block_bytes}; give a positive number of bytes")
    query, gallery = feature_pair(query, gallery)
    rows = max(1, block_bytes // (4 * len(gallery)))
    for start in range(0, len(query), rows):
        strip = slice(start, min(start + rows, len(query)))
        yield strip, _WHOLE[metric](query[strip], gallery)
