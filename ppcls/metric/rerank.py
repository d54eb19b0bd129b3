"""Re-ranking with k-reciprocal encoding (Zhong et al., CVPR 2017), sparse and in row blocks.

Two images are k-reciprocal neighbours if each is among the other's k nearest. Every image is encoded as a
vector of weights on its (expanded) k-reciprocal neighbours; the final distance mixes the Jaccard distance of
two such vectors with the original one. Neighbour sets are small, so the encodings are sparse matrices of some
fifty entries a row, where a dense form needs N² (35 GB for MSMT17).

All queries and gallery images take part at once; public code that re-ranks chunks of queries depends on the
chunk. The original distance is *squared* Euclidean, each row divided by its maximum over all images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from ppcls.metric.distance import DEFAULT_BLOCK_BYTES, Parts, Scorer, feature_pair, score_strips
from ppcls.metric.ranking import leading
from ppcls.utils.errors import UserError

_SET_ROWS = 2048
_PAIR_BYTES = 32 * 2**20


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
    parameters = parameters or KReciprocal()
    qf, gf = feature_pair(qf, gf)
    features = np.concatenate((qf, gf))
    neighbours, farthest = _neighbours(features, parameters, block_bytes)
    encodings = _encode(features, neighbours, farthest, parameters)
    encodings = _expand(encodings, neighbours[:, : parameters.k2], parameters.half_precision)
    del features, neighbours
    query, gallery = encodings[: len(qf)], encodings[len(qf) :].tocsc()
    jaccard = _jaccard_half if parameters.half_precision else _jaccard
    scorer = Scorer(qf, gf, "euclidean")
    for strip, parts in score_strips(scorer, block_bytes):
        block = np.empty((strip.stop - strip.start, len(gf)), np.float32)
        for first, scores in parts():
            squared = np.maximum(scorer.query_norms[strip, None] - 2.0 * scores, 0)
            block[:, first : first + scores.shape[1]] = squared / farthest[strip, None]
        block *= parameters.original_weight
        for row, distances in enumerate(block, strip.start):
            distances += (1 - parameters.original_weight) * jaccard(query[[row]], gallery)
        yield strip, block


def _neighbours(features: np.ndarray, parameters: KReciprocal, block_bytes: int) -> tuple[np.ndarray, np.ndarray]:
    """Every image's nearest, int64 [N, max(k1 + 1, k2)], itself first; its largest squared distance [N]."""
    count = min(max(parameters.k1 + 1, parameters.k2), len(features))
    scorer = Scorer(features, features, "euclidean")
    neighbours = np.empty((len(features), count), np.int64)
    lowest = np.full(len(features), np.inf)

    def itself_first(strip: slice, parts: Parts) -> Iterator[tuple[int, np.ndarray]]:
        for first, scores in parts():
            np.minimum(lowest[strip], scores.min(axis=1), out=lowest[strip])
            own = np.arange(max(strip.start, first), min(strip.stop, first + scores.shape[1]))
            scores[own - strip.start, own - first] = np.inf
            yield first, scores

    for strip, parts in score_strips(scorer, block_bytes):
        rows = strip.stop - strip.start
        neighbours[strip], _ = leading(lambda s=strip, p=parts: itself_first(s, p), rows, count)
    farthest = scorer.query_norms - 2 * lowest
    return neighbours, np.maximum(farthest, np.finfo(np.float32).tiny)


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
    features: np.ndarray, neighbours: np.ndarray, farthest: np.ndarray, parameters: KReciprocal
) -> sparse.csr_array:
    """Weights exp(−normalised distance) on the expanded reciprocal sets, float32, rows summing to 1."""
    near = _reciprocal(neighbours[:, : parameters.k1 + 1])
    half = _reciprocal(neighbours[:, : round(parameters.k1 / 2) + 1])
    sizes, half_transposed = half.sum(axis=1), half.T.tocsr()
    blocks = []
    for start in range(0, len(features), _SET_ROWS):
        own = near[start : start + _SET_ROWS]
        # A neighbour's own half-size set joins when more than two thirds of it is shared.
        shared = (own @ half_transposed).multiply(own).tocsr()
        shared.data = (3 * shared.data > 2 * sizes[shared.indices]).astype(np.int32)
        members = (own + shared @ half).tocsr()
        members.eliminate_zeros()
        members.sort_indices()
        blocks.append(_weighted(features, farthest, members, start))
    encodings = sparse.vstack(blocks, format="csr")
    return _rounded(encodings) if parameters.half_precision else encodings


def _weighted(features: np.ndarray, farthest: np.ndarray, members: sparse.csr_array, start: int) -> sparse.csr_array:
    """Replace the entries of ``members`` (rows ``start``…) by their normalised weights."""
    local = np.repeat(np.arange(members.shape[0]), np.diff(members.indptr))
    weights = np.exp(-_pair_distances(features, local + start, members.indices) / farthest[local + start])
    totals = np.bincount(local, weights=weights, minlength=members.shape[0])
    data = (weights / totals[local]).astype(np.float32)
    return sparse.csr_array((data, members.indices, members.indptr), shape=members.shape)


def _pair_distances(features: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Squared Euclidean distance of listed pairs, float64 [P], from differences (no cancellation)."""
    distances = np.empty(len(left))
    step = max(1, _PAIR_BYTES // (4 * features.shape[1]))
    for start in range(0, len(left), step):
        chunk = slice(start, start + step)
        difference = features[left[chunk]]
        difference -= features[right[chunk]]
        distances[chunk] = np.einsum("ij,ij->i", difference, difference)
    return distances


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
