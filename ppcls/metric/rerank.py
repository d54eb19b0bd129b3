"""Re-ranking with k-reciprocal encoding (Zhong et al., CVPR 2017), sparse and in row blocks.

Two images are k-reciprocal neighbours if each is among the other's k nearest. Every image is encoded as a
vector of weights on its (expanded) k-reciprocal neighbours; the final distance mixes the Jaccard distance of
two such vectors with the original one. Neighbour sets are small, so the encodings are sparse matrices of some
fifty entries a row, where a dense form needs N² (35 GB for MSMT17).

All queries and gallery images take part at once; public code that re-ranks chunks of queries depends on the
chunk. The original distance is *squared* Euclidean, each row divided by its maximum over all images; AlignedReID++
adds its local distance to that, or takes it instead (:func:`rerank_blocks` with ``pairwise`` distances).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ppcls.metric.distance import DEFAULT_BLOCK_BYTES, TILE_COLUMNS, TILE_ROWS, feature_pair, score_strips
from ppcls.metric.pairwise import Corner, Pairwise, SquaredEuclidean
from ppcls.utils.errors import UserError

_SET_ROWS = 2048
# Distances looked at together.
_KEYS = 2**19
_NO_KEY = np.uint64(2**64 - 1)


@dataclass(frozen=True)
class KReciprocal:
    """Parameters of re-ranking, with the paper's values.

    Attributes:
        k1: neighbours searched for reciprocity.
        k2: neighbours averaged in local query expansion; 1 switches it off.
        original_weight: λ, the share of the original distance in the result.
        half_precision: round encodings and Jaccard sums to float16 as the public code does, to compare with
            its numbers (differences up to 4e-3); slower here.
    """

    k1: int = 20
    k2: int = 6
    original_weight: float = 0.3
    half_precision: bool = False

    def __post_init__(self) -> None:
        if self.k1 < 1 or self.k2 < 1 or not 0 <= self.original_weight <= 1:
            raise UserError(f"re-ranking needs k1 ≥ 1, k2 ≥ 1 and 0 ≤ original_weight ≤ 1, not {self}")


def k_reciprocal(
    qf: np.ndarray,
    gf: np.ndarray,
    parameters: KReciprocal | None = None,
    *,
    block_bytes: int = DEFAULT_BLOCK_BYTES,
) -> np.ndarray:
    """Re-ranked distances, float32 [Nq, Ng], of ``qf`` [Nq, D] and ``gf`` [Ng, D] (smaller = nearer).

    :func:`k_reciprocal_blocks`, which never holds the whole result, explains the rest.
    """
    blocks = k_reciprocal_blocks(qf, gf, parameters, block_bytes=block_bytes)
    return np.concatenate([block for _, block in blocks])


def k_reciprocal_blocks(
    qf: np.ndarray,
    gf: np.ndarray,
    parameters: KReciprocal | None = None,
    *,
    block_bytes: int = DEFAULT_BLOCK_BYTES,
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield ``(query rows, re-ranked distances [rows, Ng])``, as ``ranking.rank_distance`` takes them.

    Features (converted to float32) go in as they are, not normalised. Memory: one copy of the features, score
    blocks of at most max(``block_bytes``, 32 MiB), the sparse encodings, and 512 rows of the result.

    Raises:
        UserError: parameters out of range, shapes that disagree, features that are not finite.
    """
    qf, gf = feature_pair(qf, gf)
    features = np.concatenate((qf, gf))
    yield from rerank_blocks(SquaredEuclidean(features, features), len(qf), parameters, block_bytes=block_bytes)


def rerank_blocks(
    distances: Pairwise,
    queries: int,
    parameters: KReciprocal | None = None,
    *,
    block_bytes: int = DEFAULT_BLOCK_BYTES,
) -> Iterator[tuple[slice, np.ndarray]]:
    """:func:`k_reciprocal_blocks` for any distance of all images with each other, which must be symmetric.

    ``distances``: of shape [N, N], ≥ 0, the first ``queries`` images being the queries, the others the gallery. Each
    pair is computed once (N²/2 in all), and query × gallery once more for the result.

    Raises:
        UserError: not square, or no query or no gallery image.
    """
    parameters = parameters or KReciprocal()
    total = distances.shape[0]
    if distances.shape != (total, total) or not 0 < queries < total:
        raise UserError(
            f"re-ranking needs distances of all queries and gallery images with each other, not {distances.shape} "
            f"with {queries} queries"
        )
    neighbours, farthest = _neighbours(distances, min(max(parameters.k1 + 1, parameters.k2), total))
    encodings = _encode(distances, neighbours, farthest, parameters)
    encodings = _expand(encodings, neighbours[:, : parameters.k2], parameters.half_precision)
    del neighbours
    query, gallery = encodings[:queries], encodings[queries:].tocsc()
    jaccard = _jaccard_half if parameters.half_precision else _jaccard
    for strip, parts in score_strips(Corner(distances, queries), block_bytes):
        block = np.empty((strip.stop - strip.start, total - queries), np.float32)
        for first, scores in parts():
            found = distances.distances(strip, scores)
            np.divide(found, farthest[strip, None], out=block[:, first : first + scores.shape[1]], casting="same_kind")
        block *= parameters.original_weight
        for row, combined in enumerate(block, strip.start):
            combined += (1 - parameters.original_weight) * jaccard(query[[row]], gallery)
        yield strip, block


def _neighbours(distances: Pairwise, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Every image's nearest, int64 [N, count], equal ones by index, and its largest distance, float32 [N].

    Where an image's distance to itself is 0 it comes first, also among duplicates and whatever was rounded. As the
    distance is symmetric, tiles on and above the diagonal are enough.
    """
    total = distances.shape[0]
    nearest = _Nearest(total, count, distances.self_is_nearest)
    farthest = np.zeros(total, np.float32)
    buffer = np.empty((min(TILE_ROWS, total), min(TILE_COLUMNS, total)), np.float32)
    for top in range(0, total, TILE_ROWS):
        rows = slice(top, min(top + TILE_ROWS, total))
        for left in range(top, total, TILE_COLUMNS):
            columns = slice(left, min(left + TILE_COLUMNS, total))
            out = buffer[: rows.stop - rows.start, : columns.stop - columns.start]
            tile = distances.distances(rows, distances.tile(rows, columns, out))
            np.maximum(farthest[rows], tile.max(axis=1), out=farthest[rows])
            nearest.add(rows.start, columns.start, tile)
            beyond = slice(max(left, rows.stop), columns.stop)
            if beyond.start < beyond.stop:
                mirrored = tile[:, beyond.start - left :].T
                np.maximum(farthest[beyond], mirrored.max(axis=1), out=farthest[beyond])
                nearest.add(beyond.start, rows.start, mirrored)
    return nearest.columns(), np.maximum(farthest, np.finfo(np.float32).tiny)


class _Nearest:
    """The ``count`` nearest of ``total`` images found so far, as keys that order by distance, then by index."""

    def __init__(self, total: int, count: int, self_first: bool) -> None:
        self._keys = np.full((total, count), _NO_KEY, np.uint64)
        self._worst = np.full(total, np.inf, np.float32)
        self._self_first = self_first

    def add(self, top: int, left: int, tile: np.ndarray) -> None:
        """Distances ≥ 0, float32, of the images ``top``… (rows) to the images ``left``… (columns)."""
        step = max(1, _KEYS // tile.shape[1])
        for start in range(0, len(tile), step):
            # Adding 0 turns −0, whose bits would be those of a large number, into 0.
            part = np.add(tile[start : start + step], np.float32(0), order="C")
            rows = slice(top + start, top + start + len(part))
            near = np.flatnonzero(part <= self._worst[rows, None])
            if not len(near):
                continue
            row, column = np.divmod(near, part.shape[1])
            keys = self._key(part.ravel()[near], row + rows.start, column + left)
            # One line of new keys for each row, as long as the longest needs.
            counts = np.bincount(row, minlength=len(part))
            place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
            kept = self._keys.shape[1]
            lines = np.full((len(part), kept + counts.max()), _NO_KEY, np.uint64)
            lines[:, :kept] = self._keys[rows]
            lines[row, kept + place] = keys
            self._keys[rows] = np.partition(lines, kept - 1, axis=1)[:, :kept]
            worst = self._keys[rows].max(axis=1)
            bits = ((worst >> np.uint64(32)) - np.uint64(1)).astype(np.uint32)
            self._worst[rows] = np.where(worst == _NO_KEY, np.float32(np.inf), bits.view(np.float32))

    def _key(self, distances: np.ndarray, row: np.ndarray, column: np.ndarray) -> np.ndarray:
        # Floats ≥ 0 order as their bits do. 0 is left for the image itself.
        high = distances.view(np.uint32).astype(np.uint64) + np.uint64(1)
        if self._self_first:
            high[row == column] = 0
        return (high << np.uint64(32)) | column.astype(np.uint64)

    def columns(self) -> np.ndarray:
        """Indices of the images kept, nearest first, int64 [total, count]."""
        return (np.sort(self._keys, axis=1) & np.uint64(2**32 - 1)).astype(np.int64)


def _pattern(columns: np.ndarray, value: float, dtype: type) -> sparse.csr_array:
    """Sparse [N, N] with ``value`` at (i, columns[i, j])."""
    total, count = columns.shape
    rows = np.repeat(np.arange(total), count)
    return sparse.csr_array((np.full(rows.size, value, dtype), (rows, columns.ravel())), shape=(total, total))


def _reciprocal(neighbours: np.ndarray) -> sparse.csr_array:
    """0/1 matrix [N, N]: i and j are in each other's list ``neighbours`` [N, k]."""
    forward = _pattern(neighbours, 1, np.int32)
    return forward.multiply(forward.T).tocsr()


def _encode(
    distances: Pairwise, neighbours: np.ndarray, farthest: np.ndarray, parameters: KReciprocal
) -> sparse.csr_array:
    """Weights exp(−normalised distance) on the expanded reciprocal sets, float32, rows summing to 1."""
    near = _reciprocal(neighbours[:, : parameters.k1 + 1])
    half = _reciprocal(neighbours[:, : round(parameters.k1 / 2) + 1])
    sizes, half_transposed = half.sum(axis=1), half.T.tocsr()
    blocks = []
    for start in range(0, len(neighbours), _SET_ROWS):
        own = near[start : start + _SET_ROWS]
        # A neighbour's own half-size set joins when more than two thirds of it is shared.
        shared = (own @ half_transposed).multiply(own).tocsr()
        shared.data = (3 * shared.data > 2 * sizes[shared.indices]).astype(np.int32)
        members = (own + shared @ half).tocsr()
        members.eliminate_zeros()
        members.sort_indices()
        blocks.append(_weighted(distances, farthest, members, start))
    encodings = sparse.vstack(blocks, format="csr")
    return _rounded(encodings) if parameters.half_precision else encodings


def _weighted(distances: Pairwise, farthest: np.ndarray, members: sparse.csr_array, start: int) -> sparse.csr_array:
    """Replace the entries of ``members`` (rows ``start``…) by their normalised weights."""
    local = np.repeat(np.arange(members.shape[0]), np.diff(members.indptr))
    weights = np.exp(-distances.pairs(local + start, members.indices) / farthest[local + start])
    totals = np.bincount(local, weights=weights, minlength=members.shape[0])
    data = (weights / totals[local]).astype(np.float32)
    return sparse.csr_array((data, members.indices, members.indptr), shape=members.shape)


def _expand(encodings: sparse.csr_array, nearest: np.ndarray, half_precision: bool) -> sparse.csr_array:
    """Local query expansion: every encoding becomes the mean of its ``nearest`` [N, k2] images' ones."""
    count = nearest.shape[1]
    if count == 1:
        return encodings
    expanded = (_pattern(nearest, 1, np.float32) @ encodings).tocsr()
    expanded.data /= np.float32(count)
    expanded.sort_indices()
    return _rounded(expanded) if half_precision else expanded


def _rounded(encodings: sparse.csr_array) -> sparse.csr_array:
    encodings.data = encodings.data.astype(np.float16).astype(np.float32)
    return encodings


def _overlaps(encoding: sparse.csr_array, gallery: sparse.csc_array) -> tuple[np.ndarray, np.ndarray]:
    """Gallery rows, and min(weight here, weight there), for every image that both encodings hold."""
    first = gallery.indptr[encoding.indices]
    count = gallery.indptr[encoding.indices + 1] - first
    entries = np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())
    return gallery.indices[entries], np.minimum(np.repeat(encoding.data, count), gallery.data[entries])


def _jaccard(encoding: sparse.csr_array, gallery: sparse.csc_array) -> np.ndarray:
    """Jaccard distance of one encoding [1, N] to every row of ``gallery`` [Ng, N] (CSC), float64 [Ng]."""
    rows, smaller = _overlaps(encoding, gallery)
    shared = np.bincount(rows, weights=smaller, minlength=gallery.shape[0])
    # Rows sum to 1, so Σmax = 2 − Σmin.
    return 1 - shared / (2 - shared)


def _jaccard_half(encoding: sparse.csr_array, gallery: sparse.csc_array) -> np.ndarray:
    """:func:`_jaccard` with sums rounded to float16 after each addition, in column order; float16 [Ng]."""
    rows, smaller = _overlaps(encoding, gallery)
    shared = np.zeros(gallery.shape[0], np.float16)
    np.add.at(shared, rows, smaller.astype(np.float16))
    return 1 - shared / (2 - shared)
