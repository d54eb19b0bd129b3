"""AlignedReID++ distances between images that are rows of stripe features.

Luo et al., "AlignedReID++: Dynamically matching local information for person re-identification", Pattern
Recognition 2019. An image is H horizontal stripes of d numbers. Two stripes are D = (e^E − 1)/(e^E + 1) =
tanh(E/2) apart, E their Euclidean distance. DMLI, the *aligned* local distance, is the cheapest way from the top
stripes to the bottom stripes of both images, one stripe further down in one of them at each step: S_ij = D_ij +
min(S_{i−1,j}, S_{i,j−1}), a sum over H + H' − 1 cells. The *unaligned* local distance is Σ_i D_ii.

Whole matrices are computed for tiles of pairs at once, column by column of S: one matrix product for the cells'
distances, then a step of the recursion for all pairs of the tile; nothing larger than a few tiles is ever held.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from ppcls.metric.distance import squared_norms, unit_rows
from ppcls.metric.pairwise import Pairwise, SquaredEuclidean, Sum
from ppcls.utils.errors import UserError

TEST_DISTANCES = ("global", "local", "global_local")
# Queries and gallery images of one inner tile: large enough for the product, small enough for the cache.
_TILE_ROWS = 128
_TILE_COLUMNS = 512
_PAIR_BYTES = 32 * 2**20


def as_stripes(stripes: np.ndarray, name: str = "stripes") -> np.ndarray:
    """``stripes`` as C-contiguous float32 [N, H, d], one unit vector per stripe (‖x‖ + 1e-12; zeros stay zero).

    Raises:
        UserError: not three-dimensional, empty, NaN or infinite.
    """
    array = _three_dimensional(stripes, name)
    return unit_rows(array.reshape(-1, array.shape[2]), name).reshape(array.shape)


class Stripes:
    """Local distances of two sets of images; a :class:`~ppcls.metric.pairwise.Pairwise`.

    ``query`` float32 [Nq, H, d], ``gallery`` float32 [Ng, H', d], as :func:`as_stripes` or the network's head gives
    them: they need not be unit vectors. ``aligned``: DMLI, else the diagonal, which needs H = H'.

    Accuracy: float32 features within 1e-5 of a float64 computation, except that the distance of two *equal* stripes
    is the square root of rounding noise, up to about 1e-3, instead of 0.

    Raises:
        UserError: shapes that do not fit, features that are not finite.
    """

    def __init__(self, query: np.ndarray, gallery: np.ndarray, aligned: bool = True) -> None:
        self.query, self._query_norms = _with_norms(query, "query stripes")
        self.gallery, self._gallery_norms = _with_norms(gallery, "gallery stripes")
        (_, high, size), (_, wide, other) = self.query.shape, self.gallery.shape
        if size != other:
            raise UserError(f"query stripes have {size} numbers each, gallery stripes {other}; use the same model")
        if not aligned and high != wide:
            raise UserError(f"the unaligned distance needs as many stripes on both sides, not {high} and {wide}")
        self.aligned = aligned
        self.self_is_nearest = not aligned

    @property
    def shape(self) -> tuple[int, int]:
        """Number of queries and of gallery images."""
        return len(self.query), len(self.gallery)

    def tile(self, rows: slice, columns: slice, out: np.ndarray) -> np.ndarray:
        """Distances of one tile with their sign changed (greater = nearer), float32, in ``out``."""
        for top in range(rows.start, rows.stop, _TILE_ROWS):
            down = slice(top, min(top + _TILE_ROWS, rows.stop))
            # Stripe by stripe, and with the factor of the products below, once per tile instead of once per cell.
            query = np.ascontiguousarray(self.query[down].swapaxes(0, 1)) * np.float32(-0.5)
            norms = self._query_norms[down].T[:, :, None]
            for left in range(columns.start, columns.stop, _TILE_COLUMNS):
                across = slice(left, min(left + _TILE_COLUMNS, columns.stop))
                here = out[down.start - rows.start : down.stop - rows.start]
                here = here[:, across.start - columns.start : across.stop - columns.start]
                np.negative(self._tile_distances(query, norms, across), out=here)
        return out

    def distances(self, rows: slice, scores: np.ndarray) -> np.ndarray:
        """Distances from :meth:`tile`'s scores of the queries ``rows``; overwrites ``scores``."""
        return np.negative(scores, out=scores)

    def pairs(self, queries: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Distances of listed pairs, float64 [P]; ``queries`` and ``columns`` int [P]."""
        found = np.empty(len(queries))
        step = max(1, _PAIR_BYTES // (4 * self.gallery[0].size))
        for start in range(0, len(queries), step):
            left, right = queries[start : start + step], columns[start : start + step]
            products = np.matmul(self.query[left], self.gallery[right].swapaxes(1, 2)) * np.float32(-0.5)
            products += self._query_norms[left][:, :, None] + self._gallery_norms[right][:, None, :]
            cells = _bounded(products).transpose(2, 1, 0)
            found[start : start + step] = self._combined(cells if self.aligned else cells.diagonal().T)
        return found

    def _tile_distances(self, query: np.ndarray, query_norms: np.ndarray, across: slice) -> np.ndarray:
        """Distances of a tile: ``query`` [H, rows, d] times −½, ``query_norms`` [H, rows, 1], gallery ``across``."""
        gallery, gallery_norms = self.gallery[across], self._gallery_norms[across].T
        scratch = np.empty((*query.shape[:2], len(gallery)), np.float32)

        def costs() -> Iterator[np.ndarray]:
            for stripe in range(gallery.shape[1]):
                # One product for all of the queries' stripes; for the diagonal, with the same stripe alone.
                here = slice(None) if self.aligned else slice(stripe, stripe + 1)
                flat = query[here].reshape(-1, query.shape[2])
                out = scratch[: len(flat) // query.shape[1]]
                np.matmul(flat, gallery[:, stripe].T, out=out.reshape(len(flat), len(gallery)))
                out += query_norms[here]
                out += gallery_norms[stripe]
                yield _bounded(out) if self.aligned else _bounded(out)[0]

        return self._combined(costs())

    def _combined(self, costs: Iterable[np.ndarray]) -> np.ndarray:
        return shortest_path(costs) if self.aligned else functools.reduce(np.add, costs, np.float32(0))


def _three_dimensional(stripes: np.ndarray, name: str) -> np.ndarray:
    array = np.asarray(stripes)
    if array.ndim != 3 or 0 in array.shape:
        raise UserError(f"{name} have shape {array.shape}; expected [number of images, stripes, feature size]")
    return np.ascontiguousarray(array, dtype=np.float32)


def _with_norms(stripes: np.ndarray, name: str) -> tuple[np.ndarray, np.ndarray]:
    """``stripes`` as float32 [N, H, d], and a quarter of each stripe's squared length, float32 [N, H]."""
    array = _three_dimensional(stripes, name)
    norms = squared_norms(array.reshape(-1, array.shape[2]), name).reshape(array.shape[:2])
    return array, (0.25 * norms).astype(np.float32)


def _bounded(quarter_squared: np.ndarray) -> np.ndarray:
    """tanh(E/2) from E²/4, in place."""
    np.maximum(quarter_squared, 0, out=quarter_squared)
    np.sqrt(quarter_squared, out=quarter_squared)
    return np.tanh(quarter_squared, out=quarter_squared)


def shortest_path(columns: Iterable[np.ndarray]) -> np.ndarray:
    """Cheapest monotone way from the first to the last cell, for many pairs at once.

    ``columns``: for each gallery stripe the costs against all query stripes, float [H, …], one or more; an array
    is read before the next is asked for. Returns an array […].
    """
    columns = iter(columns)
    totals = next(columns).copy()
    for above, here in itertools.pairwise(totals):
        here += above
    for costs in columns:
        totals[0] += costs[0]
        for above, here, cost in zip(totals, totals[1:], costs[1:], strict=False):
            np.minimum(here, above, out=here)
            here += cost
    return totals[-1]


def image_distance(
    qf: np.ndarray, ql: np.ndarray, gf: np.ndarray, gl: np.ndarray, kind: str = "global_local", aligned: bool = True
) -> Pairwise:
    """AlignedReID++'s distances of queries and gallery, ready for ranking; of all images twice, for re-ranking.

    ``qf, gf`` [N, D] global features, which are normalised here; ``ql, gl`` [N, H, d] stripes, unit vectors as the
    network gives them (or :func:`as_stripes`). ``kind``: "global" = ‖q−g‖²; "local" = :class:`Stripes`;
    "global_local" = their sum, weights 1 : 1 (the local one, up to 11.4 for 8 stripes, outweighs the global's 4).

    Raises:
        UserError: unknown kind; as :class:`Stripes`.
    """
    if kind not in TEST_DISTANCES:
        raise UserError(f"unknown test distance {kind!r}; choose one of {', '.join(TEST_DISTANCES)}")
    terms: list[Pairwise] = []
    if kind != "local":
        terms.append(SquaredEuclidean(unit_rows(qf, "query features"), unit_rows(gf, "gallery features")))
    if kind != "global":
        terms.append(Stripes(ql, gl, aligned))
    return terms[0] if len(terms) == 1 else Sum(terms)


@dataclass(frozen=True)
class Alignment:
    """How the stripes of two images are matched.

    Attributes:
        accumulated: S, float64 [H, H']; its last entry is the aligned distance.
        path: cells (i, j) from first to last, int64 [H + H' − 1, 2].
    """

    accumulated: np.ndarray
    path: np.ndarray


def align(cost: np.ndarray) -> Alignment:
    """The cheapest way through one matrix of stripe distances, float [H, H'] (for pictures).

    Where two ways cost the same, the one that comes from the left (j − 1) is taken.
    """
    cost = np.asarray(cost, np.float64)
    if cost.ndim != 2 or not cost.size:
        raise UserError(f"stripe distances have shape {cost.shape}; expected one row and one column per stripe")
    total = np.cumsum(cost, axis=0)
    total[0] = np.cumsum(cost[0])
    for i in range(1, cost.shape[0]):
        for j in range(1, cost.shape[1]):
            total[i, j] = cost[i, j] + min(total[i - 1, j], total[i, j - 1])
    i, j = cost.shape[0] - 1, cost.shape[1] - 1
    path = [(i, j)]
    while i or j:
        if not i or (j and total[i, j - 1] <= total[i - 1, j]):
            j -= 1
        else:
            i -= 1
        path.append((i, j))
    return Alignment(total, np.array(path[::-1]))
