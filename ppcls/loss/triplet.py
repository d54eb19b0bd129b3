"""Batch-hard and softly weighted triplet losses with any number of images per id.

Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", arXiv 1703.07737:
batch-hard mining (equation 5) and the soft margin ln(1 + e^x). The weighted variant replaces the hardest
pair by a softmax-weighted mean of all pairs (Ristani & Tomasi, CVPR 2018, adaptive weights).
"""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F

from ppcls.loss.labels import Labels, label_array, same_id
from ppcls.loss.pairwise import euclidean_dist, row_distance
from ppcls.loss.precision import full_precision
from ppcls.utils.errors import UserError


@full_precision
def batch_hard_triplet(features: paddle.Tensor, pids: Labels, margin: float | None = None) -> paddle.Tensor:
    """Mean over anchors of h(d+ - d-), d+ the farthest image of the id, d- the nearest of another id.

    Args:
        features: [B, D] float, not normalised here.
        pids: [B] integers. An anchor counts as its own positive, so a lone image has d+ = 0.
        margin: ``None`` for the soft margin h(x) = ln(1 + e^x); a number m for the hinge h(x) = max(x +
            m, 0).

    Raises:
        UserError: the batch holds one id only, so that no negative exists.
    """
    same = _mask(features, pids)
    with paddle.no_grad():
        farthest, nearest = hardest(euclidean_dist(features), same)
    # The two mined distances are recomputed from the rows: no cancellation, and the same gradient.
    positive = row_distance(features, paddle.gather(features, farthest))
    negative = row_distance(features, paddle.gather(features, nearest))
    return margin_loss(positive - negative, margin)


@full_precision
def soft_weighted_triplet(features: paddle.Tensor, pids: Labels, margin: float | None = None) -> paddle.Tensor:
    """As :func:`batch_hard_triplet` with weighted means in place of the hardest pairs.

    d+ = sum_p softmax_p(D_ap) D_ap over images of the id (the anchor included), d- = sum_n
    softmax_n(-D_an) D_an over the others. The weights are part of the gradient.

    Args:
        features: [B, D] float.
        pids: [B] integers.
        margin: ``None`` for the soft margin, a number for the hinge.

    Raises:
        UserError: the batch holds one id only.
    """
    same = paddle.to_tensor(_mask(features, pids))
    distance = euclidean_dist(features)
    excluded = paddle.full_like(distance, float("-inf"))
    to_positive = F.softmax(paddle.where(same, distance, excluded), axis=1)
    to_negative = F.softmax(paddle.where(same, excluded, -distance), axis=1)
    gap = (to_positive * distance).sum(1) - (to_negative * distance).sum(1)
    return margin_loss(gap, margin)


def hardest(distance: paddle.Tensor, same: np.ndarray) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Column indices [B] of the farthest equal-id and of the nearest other-id entry of each row of [B, B]."""
    mask = paddle.to_tensor(same)
    infinity = paddle.full_like(distance, float("inf"))
    farthest = paddle.where(mask, distance, -infinity).argmax(axis=1)
    nearest = paddle.where(mask, infinity, distance).argmin(axis=1)
    return farthest, nearest


def margin_loss(gap: paddle.Tensor, margin: float | None) -> paddle.Tensor:
    """Mean of ln(1 + e^gap) for ``margin=None``, else of max(gap + margin, 0); finite for any gap."""
    if margin is None:
        return F.softplus(gap, threshold=40.0).mean()
    return F.relu(gap + margin).mean()


def _mask(features: paddle.Tensor, pids: Labels) -> np.ndarray:
    return require_negatives(same_id(label_array(pids, features.shape[0])))


def require_negatives(same: np.ndarray) -> np.ndarray:
    """The mask itself, or a UserError if some row has no entry of another id."""
    if same.all(axis=1).any():
        raise UserError("a triplet loss needs at least two ids in each batch, this batch has one; raise --batch-size")
    return same
