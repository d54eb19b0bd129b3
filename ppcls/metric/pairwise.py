"""Distances between two sets of images, whatever they come from: features, stripes, a matrix, or a sum of those.

Ranking (``ranking.rank_strips(distance.score_strips(…), labels)``) and re-ranking read them tile by tile and in lists
of pairs, so no whole matrix is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from ppcls.metric.distance import DEFAULT_BLOCK_BYTES, Scorer, TileScorer, score_strips
from ppcls.utils.errors import UserError

_PAIR_BYTES = 32 * 2**20


class Pairwise(TileScorer, Protocol):
    """A distance ≥ 0 that scores tiles (greater = nearer) and can turn scores into distances."""

    self_is_nearest: bool
    """Is an image's distance to itself 0? (DMLI's is not.)"""

    def distances(self, rows: slice, scores: np.ndarray) -> np.ndarray:
        """Distances, float32, from the scores of the queries ``rows``; may overwrite ``scores``."""

    def pairs(self, queries: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Distances of listed pairs, float64 [P]; ``queries`` and ``columns`` int [P]."""


class SquaredEuclidean(Scorer):
    """‖q−g‖² of features [Nq, D] and [Ng, D]."""

    self_is_nearest = True

    def __init__(self, query: np.ndarray, gallery: np.ndarray) -> None:
        super().__init__(query, gallery, "euclidean")

    def distances(self, rows: slice, scores: np.ndarray) -> np.ndarray:
        """See :class:`Pairwise`."""
        scores *= -2
        scores += self.query_norms[rows, None].astype(np.float32)
        return np.maximum(scores, 0, out=scores)

    def pairs(self, queries: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """See :class:`Pairwise`; from differences, without cancellation."""
        distances = np.empty(len(queries))
        step = max(1, _PAIR_BYTES // (4 * self.query.shape[1]))
        for start in range(0, len(queries), step):
            chunk = slice(start, start + step)
            difference = self.query[queries[chunk]]
            difference -= self.gallery[columns[chunk]]
            distances[chunk] = np.einsum("ij,ij->i", difference, difference)
        return distances


class Given:
    """A matrix of finite distances ≥ 0, float [Nq, Ng], that exists already."""

    self_is_nearest = False

    def __init__(self, matrix: np.ndarray) -> None:
        self.matrix = np.asarray(matrix, np.float32)
        if self.matrix.ndim != 2 or not self.matrix.size or not (np.isfinite(self.matrix) & (self.matrix >= 0)).all():
            raise UserError(f"distances of shape {self.matrix.shape}: expected finite numbers ≥ 0 [queries, gallery]")
        self.shape = self.matrix.shape

    def tile(self, rows: slice, columns: slice, out: np.ndarray) -> np.ndarray:
        """See ``distance.TileScorer``."""
        return np.negative(self.matrix[rows, columns], out=out)

    def distances(self, rows: slice, scores: np.ndarray) -> np.ndarray:
        """See :class:`Pairwise`."""
        return np.negative(scores, out=scores)

    def pairs(self, queries: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """See :class:`Pairwise`."""
        return self.matrix[queries, columns].astype(np.float64)


class Sum:
    """The sum of several distances between the same images."""

    def __init__(self, terms: Sequence[Pairwise]) -> None:
        shapes = {term.shape for term in terms}
        if len(shapes) != 1:
            raise UserError(f"distances of shapes {sorted(shapes)} cannot be added; give the same images to each")
        self.terms = list(terms)
        self.shape = self.terms[0].shape
        self.self_is_nearest = all(term.self_is_nearest for term in terms)

    def tile(self, rows: slice, columns: slice, out: np.ndarray) -> np.ndarray:
        """See ``distance.TileScorer``."""
        scratch = np.empty_like(out)
        out[:] = 0
        for term in self.terms:
            out -= term.distances(rows, term.tile(rows, columns, scratch))
        return out

    def distances(self, rows: slice, scores: np.ndarray) -> np.ndarray:
        """See :class:`Pairwise`."""
        return np.negative(scores, out=scores)

    def pairs(self, queries: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """See :class:`Pairwise`."""
        return sum(term.pairs(queries, columns) for term in self.terms)


class Corner:
    """Rows and columns of another :class:`Pairwise`: the first ``queries`` images against all the rest."""

    def __init__(self, whole: Pairwise, queries: int) -> None:
        self._whole, self._queries = whole, queries
        self.shape = (queries, whole.shape[1] - queries)

    def tile(self, rows: slice, columns: slice, out: np.ndarray) -> np.ndarray:
        """See ``distance.TileScorer``."""
        shifted = slice(columns.start + self._queries, columns.stop + self._queries)
        return self._whole.tile(rows, shifted, out)


def distance_blocks(pairwise: Pairwise, block_bytes: int = DEFAULT_BLOCK_BYTES) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield ``(query rows, distances [rows, Ng])``, float32, 512 rows at a time."""
    for strip, parts in score_strips(pairwise, block_bytes):
        block = np.empty((strip.stop - strip.start, pairwise.shape[1]), np.float32)
        for first, scores in parts():
            block[:, first : first + scores.shape[1]] = pairwise.distances(strip, scores)
        yield strip, block


def matrix(pairwise: Pairwise, block_bytes: int = DEFAULT_BLOCK_BYTES) -> np.ndarray:
    """The whole matrix, float32 [Nq, Ng]."""
    return np.concatenate([block for _, block in distance_blocks(pairwise, block_bytes)])
