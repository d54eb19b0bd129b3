"""Centroid triplet loss.

Wieczorek et al., "On the Unreasonable Effectiveness of Centroids in Image Retrieval", ICONIP 2021: an image is
compared with the mean feature of the other images of its id. Each image is the query once; the others of its id form
the centroid.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import paddle

from ppcls.loss.labels import Labels, label_array
from ppcls.loss.pairwise import Metric, distance_matrix, row_metric
from ppcls.loss.precision import full_precision
from ppcls.loss.triplet import batch_hard_triplet, margin_loss


@full_precision
def centroid_triplet(
    features: paddle.Tensor,
    pids: Labels,
    margin: float | None = 0.5,
    *,
    real: np.ndarray | None = None,
    variant: Literal["reference", "paper"] = "reference",
    metric: Metric = "euclidean",
) -> paddle.Tensor:
    """Mean over slots k of the triplet loss of the k-th images against the centroids of the others.

    Slot k holds the k-th row of each id. Its queries are the real rows there whose id has another real row; the
    centroid of a query is the mean of the other real rows of its id (the query left out, not normalised; the
    gradient flows). Slots with fewer than two queries are left out.

    ``variant="reference"``: batch-hard triplet over [queries; centroids] with the ids repeated: both are anchors,
    and negatives are queries or centroids of other ids, as in the published code. ``"paper"``: anchors are the
    queries, positives their centroids, negatives the nearest centroid of another id.

    Args:
        features: [B, D] float, before the neck's batch norm; rows of an id in any place, any number per id.
        pids: [B] integers.
        margin: 0.5 in the published code; ``None`` for the soft margin.
        real: bool [B]; False marks a mock row that only fills a slot. ``None`` = all real.
        metric: the distance.

    Returns:
        Scalar; 0 if no slot has two queries.
    """
    ids = label_array(pids, features.shape[0])
    present = np.ones(len(ids), bool) if real is None else np.asarray(real, bool).reshape(-1)
    if len(present) != len(ids):
        raise ValueError(f"{len(present)} marks of real rows for a batch of {len(ids)}")
    losses = []
    for queries, members in _slots(ids, present):
        query = paddle.gather(features, paddle.to_tensor(queries))
        share = members / members.sum(1, keepdims=True)
        centroid = paddle.to_tensor(share.astype(str(features.dtype).rpartition(".")[2])) @ features
        losses.append(_slot_loss(query, centroid, ids[queries], margin, variant, metric))
    return paddle.add_n(losses) / len(losses) if losses else features.sum() * 0.0


def _slot_loss(query, centroid, ids, margin, variant, metric) -> paddle.Tensor:
    if variant == "reference":
        both = paddle.concat([query, centroid])
        return batch_hard_triplet(both, np.concatenate([ids, ids]), margin, metric=metric)
    if variant != "paper":
        raise ValueError(f"unknown variant {variant!r}; choose reference or paper")
    with paddle.no_grad():
        count = len(ids)
        across = distance_matrix(paddle.concat([query, centroid]), metric)[:count, count:]
        nearest = (across + paddle.diag(paddle.full([count], float("inf"), across.dtype))).argmin(axis=1)
    gap = row_metric(query, centroid, metric) - row_metric(query, paddle.gather(centroid, nearest), metric)
    return margin_loss(gap, margin)


def slot_numbers(ids: np.ndarray) -> np.ndarray:
    """For each row, how many earlier rows have its id: int64 [B]."""
    seen: dict[int, int] = {}
    numbers = np.empty(len(ids), np.int64)
    for row, pid in enumerate(ids.tolist()):
        numbers[row] = seen.get(pid, 0)
        seen[pid] = numbers[row] + 1
    return numbers


def _slots(ids: np.ndarray, real: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Per usable slot: rows of the queries [n], and which rows make their centroids, bool [n, B]."""
    numbers = slot_numbers(ids)
    slots = []
    for slot in range(int(numbers.max(initial=-1)) + 1):
        queries = np.flatnonzero((numbers == slot) & real)
        members = (ids[queries, None] == ids[None, :]) & real & (np.arange(len(ids)) != queries[:, None])
        usable = members.any(axis=1)
        if usable.sum() > 1:
            slots.append((queries[usable], members[usable]))
    return slots
