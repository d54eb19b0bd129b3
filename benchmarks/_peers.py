"""Ranking as widely used public code does it: a full sort of every query's gallery, then a sweep over it.

Written for comparison only. It follows the usual evaluation script: one distance matrix, one argsort of it,
and per query a mask for same-id-same-camera images, cumulative hits and precision at every place.
"""

from __future__ import annotations

import numpy as np


def cosine_distance(qf: np.ndarray, gf: np.ndarray) -> np.ndarray:
    """1 − cosine as one float32 [Nq, Ng] matrix."""
    query = qf / np.linalg.norm(qf, axis=1, keepdims=True)
    gallery = gf / np.linalg.norm(gf, axis=1, keepdims=True)
    return 1 - query @ gallery.T


def full_sort_rank(
    distance: np.ndarray,
    q_pids: np.ndarray,
    g_pids: np.ndarray,
    q_cams: np.ndarray,
    g_cams: np.ndarray,
    max_rank: int = 100,
) -> tuple[float, np.ndarray]:
    """mAP (mean precision at the hits) and CMC, float64 [max_rank], from ``distance`` [Nq, Ng]."""
    order = np.argsort(distance, axis=1)
    matches = (g_pids[order] == q_pids[:, np.newaxis]).astype(np.int32)
    curves, precisions = [], []
    for query in range(len(distance)):
        here = order[query]
        keep = ~((g_pids[here] == q_pids[query]) & (g_cams[here] == q_cams[query]))
        hits = matches[query][keep]
        if not hits.any():
            continue
        found = hits.cumsum()
        precision = found / np.arange(1, len(found) + 1)
        precisions.append((precision * hits).sum() / hits.sum())
        curves.append(np.minimum(found[:max_rank], 1))
    return float(np.mean(precisions)), np.mean(curves, axis=0, dtype=np.float64)
