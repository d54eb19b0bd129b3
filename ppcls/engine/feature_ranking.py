"""Retrieval figures of features from anywhere: arrays in, figures out, no network and no framework."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from ppcls.metric.ranking import RankingResult, rank, rank_distance
from ppcls.metric.rerank import k_reciprocal_blocks


def evaluate_features(
    qf: ArrayLike,
    gf: ArrayLike,
    q_pids: ArrayLike,
    g_pids: ArrayLike,
    q_cams: ArrayLike,
    g_cams: ArrayLike,
    *,
    metric: str = "cosine",
    ap: str = "rectangular",
    re_ranking: bool = False,
    max_rank: int = 100,
) -> RankingResult:
    """Rank gallery features for each query and compute mAP and CMC by the Market-1501 protocol.

    A gallery image of the query's person *and* camera is left out for that query; person −1 is junk, left out for
    all. Queries without a match in another camera take no part in the means.

    Args:
        qf: query features [Nq, D]; computed with in float32.
        gf: gallery features [Ng, D].
        q_pids, q_cams: persons and cameras of the queries, integers [Nq].
        g_pids, g_cams: persons and cameras of the gallery, integers [Ng].
        metric: ``"cosine"`` or ``"euclidean"``.
        ap: ``"rectangular"``, the mean over matches of the precision at their ranks, or ``"trapezoid"``, that of
            Market-1501's own code.
        re_ranking: k-reciprocal re-ranking (Zhong et al., CVPR 2017) of squared Euclidean distances; ``metric`` has
            no effect then.
        max_rank: length of the CMC curve.

    Returns:
        Fractions of 1: ``mAP``, ``cmc`` float64 [max_rank], ``ap_per_query`` float64 [Nq] (NaN: no match), and the
        number ``num_valid`` of queries with a match.

    Raises:
        UserError: shapes that disagree, features that are not finite, an unknown option, no query with a match.
    """
    labels = [np.asarray(values) for values in (q_pids, g_pids, q_cams, g_cams)]
    query, gallery = np.asarray(qf), np.asarray(gf)
    if re_ranking:
        blocks = k_reciprocal_blocks(query, gallery)
        return rank_distance(blocks, *labels, ap=ap, max_rank=max_rank)
    return rank(query, gallery, *labels, metric=metric, ap=ap, max_rank=max_rank)
