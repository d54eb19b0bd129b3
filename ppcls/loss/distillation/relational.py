"""Distillation of distances between the images of a batch.

``relation``: Park et al., "Relational Knowledge Distillation", CVPR 2019 (distance-wise, absolute
difference, no normalisation by the mean). ``metric``: distributions of neighbours by softmin of
distances. ``similitude``: the ratio of new to old distances should be one constant per id.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import paddle

from ppcls.loss.distillation.base import Context, Distillation, embeddings, require_positive
from ppcls.loss.labels import Labels, label_array, same_id_pairs
from ppcls.loss.pairwise import SQUARED_FLOOR, euclidean_dist, l2_normalize, row_distance
from ppcls.loss.softmax import log_softmax
from ppcls.utils.errors import UserError

PROBABILITY_FLOOR = 1e-8


def relation(new: paddle.Tensor, old: paddle.Tensor, p: float = 2.0, normalize: bool = False) -> paddle.Tensor:
    """mean_{i<j} abs(|new_i - new_j|_p - |old_i - old_j|_p).

    Args:
        new, old: [B, D], B >= 2.
        p: order of the norm, >= 1.
        normalize: scale rows to unit length first.
    """
    _require_two(new, "relation")
    if normalize:
        new, old = l2_normalize(new), l2_normalize(old)
    first, second = (paddle.to_tensor(index) for index in np.triu_indices(new.shape[0], 1))
    return (_pair_norms(new, first, second, p) - _pair_norms(old, first, second, p)).abs().mean()


def metric(new: paddle.Tensor, old: paddle.Tensor, T: float = 2.0) -> paddle.Tensor:
    """mean_i of -sum_j q_ij ln max(p_ij, 1e-8), q and p = softmin over j != i of distances / T (old, new).

    Args:
        new, old: [B, D], B >= 2.
        T: temperature, in the unit of the distances.
    """
    _require_two(new, "metric")
    log_p = paddle.clip(log_softmax(-_off_diagonal(new) / T), min=math.log(PROBABILITY_FLOOR))
    q = log_softmax(-_off_diagonal(old) / T).exp()
    return -(q * log_p).sum(1).mean()


def similitude(
    new: paddle.Tensor,
    old: paddle.Tensor,
    pids: Labels,
    grouping: Literal["id", "consecutive"] = "id",
) -> paddle.Tensor:
    """Mean over ids of the variance (ddof 1) of distance ratios new / old of the id's image pairs.

    Args:
        new, old: [B, D].
        pids: [B] ids; ids with fewer than three images (two pairs) take no part.
        grouping: ``"id"`` groups pairs by id in any batch order. ``"consecutive"`` cuts the row-major
            list of pairs into equal runs, one per id, as the published code does: the same for batches
            grouped by id only.

    Raises:
        UserError: no id has three images; ``"consecutive"`` with unequal counts.
    """
    ids = label_array(pids, new.shape[0])
    first, second = same_id_pairs(ids)
    groups, counts = _pair_groups(ids, first, grouping)
    first, second = paddle.to_tensor(first), paddle.to_tensor(second)
    new_distance = row_distance(paddle.gather(new, first), paddle.gather(new, second))
    old_distance = row_distance(paddle.gather(old, first), paddle.gather(old, second))
    ratio = new_distance / old_distance
    member = paddle.to_tensor((groups[None, :] == np.arange(len(counts))[:, None]).astype(np.float32))
    member = member.astype(ratio.dtype)
    mean = (member @ ratio) / member.sum(1)
    deviation = member * (ratio - mean.unsqueeze(1)).square()
    return (deviation.sum(1) / (member.sum(1) - 1.0)).mean()


def _pair_norms(x: paddle.Tensor, first: paddle.Tensor, second: paddle.Tensor, p: float) -> paddle.Tensor:
    if p == 2:
        return paddle.gather_nd(euclidean_dist(x), paddle.stack([first, second], axis=1))
    gap = (paddle.gather(x, first) - paddle.gather(x, second)).abs()
    if p == math.inf:
        return gap.max(axis=1)
    if p == 1:
        return gap.sum(1)
    # Logarithms, because Paddle rounds the exponent of pow to single precision. A zero has no logarithm, and a zero
    # distance no gradient: both are replaced by constants.
    logarithm = paddle.log(paddle.where(gap > 0, gap, paddle.ones_like(gap)))
    total = (paddle.exp(logarithm * p) * (gap > 0).astype(gap.dtype)).sum(1)
    return paddle.exp(paddle.log(paddle.clip(total, min=math.sqrt(SQUARED_FLOOR) ** p)) / p)


def _off_diagonal(x: paddle.Tensor) -> paddle.Tensor:
    batch = x.shape[0]
    keep = np.nonzero(~np.eye(batch, dtype=bool).reshape(-1))[0]
    return paddle.gather(euclidean_dist(x).reshape([-1]), paddle.to_tensor(keep)).reshape([batch, batch - 1])


def _pair_groups(ids: np.ndarray, first: np.ndarray, grouping: str) -> tuple[np.ndarray, np.ndarray]:
    """Group number of each pair (-1: none) and the pairs per group."""
    labels, groups, counts = np.unique(ids[first], return_inverse=True, return_counts=True)
    if not (counts > 1).any():
        raise UserError("similitude needs an id with at least three images in each batch")
    if grouping == "consecutive":
        if len(set(counts)) > 1 or len(labels) < len(np.unique(ids)):
            raise UserError("similitude with grouping 'consecutive' needs equally many images of each id")
        return np.repeat(np.arange(len(counts)), counts), counts
    number = np.where(counts > 1, np.cumsum(counts > 1) - 1, -1)
    return number[groups], counts[counts > 1]


def _require_two(x: paddle.Tensor, name: str) -> None:
    if x.shape[0] < 2:
        raise UserError(f"{name} distillation compares the images of a batch and needs at least two of them")


@dataclass(frozen=True)
class Relation(Distillation):
    """Type ``relation``: :func:`relation` of the embeddings."""

    needs: ClassVar[frozenset[str]] = frozenset({"embedding"})
    p: float = 2.0
    normalize: bool = False

    def __post_init__(self) -> None:
        require_positive("relation", p=self.p)
        if self.p < 1:
            raise UserError(f"relation: p must be at least 1, not {self.p!r}")
        if not isinstance(self.normalize, bool):
            raise UserError(f"relation: normalize must be true or false, not {self.normalize!r}")

    def _loss(self, student: Any, teacher: Any, pids: Any, context: Context) -> paddle.Tensor:
        return relation(*embeddings(student, teacher), self.p, self.normalize)


@dataclass(frozen=True)
class Metric(Distillation):
    """Type ``metric``: :func:`metric` of the embeddings."""

    needs: ClassVar[frozenset[str]] = frozenset({"embedding"})
    T: float = 2.0

    def __post_init__(self) -> None:
        require_positive("metric", T=self.T)

    def _loss(self, student: Any, teacher: Any, pids: Any, context: Context) -> paddle.Tensor:
        return metric(*embeddings(student, teacher), self.T)


@dataclass(frozen=True)
class Similitude(Distillation):
    """Type ``similitude``: :func:`similitude` of the embeddings."""

    needs: ClassVar[frozenset[str]] = frozenset({"embedding", "pids"})
    grouping: str = "id"

    def __post_init__(self) -> None:
        if self.grouping not in ("id", "consecutive"):
            raise UserError(f"similitude: grouping must be 'id' or 'consecutive', not {self.grouping!r}")

    def _loss(self, student: Any, teacher: Any, pids: Any, context: Context) -> paddle.Tensor:
        return similitude(*embeddings(student, teacher), pids, self.grouping)
