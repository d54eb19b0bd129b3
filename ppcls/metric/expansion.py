"""Query expansion and database augmentation: move features towards their nearest neighbours, without labels.

Average query expansion (AQE; Chum et al., "Total Recall", ICCV 2007) replaces a query by the mean of itself and
its k best answers. α-weighted (αQE; Radenović et al., TPAMI 2019): neighbours count cosine^α, so that doubtful
ones count little. Database augmentation (DBA; Arandjelović and Zisserman, CVPR 2012) does the same to every gallery
image with its neighbours in the gallery. Everything here is by cosine; results are unit vectors.
"""

from __future__ import annotations

import numpy as np

from ppcls.metric.distance import DEFAULT_BLOCK_BYTES, feature_pair, unit_rows
from ppcls.metric.ranking import top_k
from ppcls.utils.errors import UserError

_ROWS = 1024


def expand_queries(
    qf: np.ndarray,
    gf: np.ndarray,
    k: int = 5,
    alpha: float = 3.0,
    *,
    times: int = 1,
    block_bytes: int = DEFAULT_BLOCK_BYTES,
) -> np.ndarray:
    """Queries ``qf`` [Nq, D] moved towards their ``k`` nearest of ``gf`` [Ng, D]: unit rows, float32 [Nq, D].

    q' = q + Σ max(cos(q, g), 0)^α · g over the k nearest unit vectors g, then normalised. ``alpha`` 0 is AQE, the
    plain mean. ``times``: how often, each time from the result before.

    Raises:
        UserError: ``k`` < 1, ``alpha`` < 0, ``times`` < 1, shapes that disagree, features that are not finite.
    """
    _check(k, alpha, times)
    query, gallery = feature_pair(qf, gf)
    query, gallery = unit_rows(query, "query features"), unit_rows(gallery, "gallery features")
    for _ in range(times):
        nearest, cosines = top_k(query, gallery, k, block_bytes=block_bytes)
        query = _moved(query, gallery, nearest, cosines, alpha)
    return query


def augment_gallery(
    gf: np.ndarray, k: int = 5, alpha: float = 3.0, *, times: int = 1, block_bytes: int = DEFAULT_BLOCK_BYTES
) -> np.ndarray:
    """Every gallery image moved towards its ``k`` nearest others: unit rows, float32 [Ng, D]. DBA.

    Arguments and errors as :func:`expand_queries`. Some toolboxes augment queries and gallery as one set: give
    both, concatenated, and cut the result.
    """
    _check(k, alpha, times)
    gallery = unit_rows(gf, "gallery features")
    for _ in range(times):
        if len(gallery) == 1:
            break
        nearest, cosines = _others(*top_k(gallery, gallery, k + 1, block_bytes=block_bytes))
        gallery = _moved(gallery, gallery, nearest, cosines, alpha)
    return gallery


def _check(k: int, alpha: float, times: int) -> None:
    if k < 1 or times < 1 or not alpha >= 0:
        raise UserError(f"expansion needs k ≥ 1, alpha ≥ 0 and times ≥ 1, not k={k}, alpha={alpha}, times={times}")


def _others(nearest: np.ndarray, cosines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drop the image itself from each row, or the last neighbour where duplicates displaced it."""
    itself = nearest == np.arange(len(nearest))[:, None]
    itself[~itself.any(axis=1), -1] = True
    rest = (len(nearest), nearest.shape[1] - 1)
    return nearest[~itself].reshape(rest), cosines[~itself].reshape(rest)


def _moved(
    features: np.ndarray, database: np.ndarray, nearest: np.ndarray, cosines: np.ndarray, alpha: float
) -> np.ndarray:
    weights = np.maximum(cosines, 0) ** np.float32(alpha)
    moved = np.empty_like(features)
    for start in range(0, len(features), _ROWS):
        rows = slice(start, start + _ROWS)
        moved[rows] = features[rows]
        for place in range(nearest.shape[1]):
            moved[rows] += weights[rows, place, None] * database[nearest[rows, place]]
    return unit_rows(moved, "expanded features")
