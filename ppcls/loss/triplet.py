"""Batch-hard and softly weighted triplet losses with any number of images per id.

Hermans et al., "In Defense of the Triplet Loss for Person Re-Identification", arXiv 1703.07737:
batch-hard mining (equation 5) and the soft margin ln(1 + e^x). The weighted variant replaces the hardest
pair by a softmax-weighted mean of all pairs (Ristani & Tomasi, CVPR 2018, adaptive weights).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import paddle
import paddle.nn.functional as F

from ppcls.loss.labels import Labels, label_array, same_id
from ppcls.loss.pairwise import Metric, distance_matrix, l2_normalize, row_metric
from ppcls.loss.precision import full_precision
from ppcls.utils.errors import UserError


class Mined(NamedTuple):
    """Hardest pairs of a batch: indices [B] of the farthest image of the id and the nearest of another, and their
    distances [B] (differentiable)."""

    farthest: paddle.Tensor
    nearest: paddle.Tensor
    positive: paddle.Tensor
    negative: paddle.Tensor


def mine(features: paddle.Tensor, pids: Labels, metric: Metric = "euclidean") -> Mined:
    """The hardest pairs of every row of features [B, D]; a row counts as its own positive; first index wins a tie.

    Raises:
        UserError: the batch holds one id only, so that no negative exists.
    """
    same = _mask(features, pids)
    with paddle.no_grad():
        farthest, nearest = hardest(distance_matrix(features, metric), same)
    # The two mined distances are recomputed from the rows: no cancellation, and the same gradient.
    positive = row_metric(features, paddle.gather(features, farthest), metric)
    negative = row_metric(features, paddle.gather(features, nearest), metric)
    return Mined(farthest, nearest, positive, negative)


@full_precision
def batch_hard_triplet(
    features: paddle.Tensor,
    pids: Labels,
    margin: float | None = None,
    *,
    normalize: bool = False,
    metric: Metric = "euclidean",
    anchors: np.ndarray | None = None,
) -> paddle.Tensor:
    """Mean over anchors of h(d+ - d-), d+ the farthest image of the id, d- the nearest of another id.

    Args:
        features: [B, D] float.
        pids: [B] integers. An anchor counts as its own positive, so a lone image has d+ = 0.
        margin: ``None`` for the soft margin h(x) = ln(1 + e^x); a number m for the hinge h(x) = max(x +
            m, 0). The strong baseline has 0.3, Centroids-ReID 0.5.
        normalize: divide every feature by its length first.
        metric: the distance d.
        anchors: bool [B], the rows to average over (all are candidates); ``None`` = all.

    Raises:
        UserError: the batch holds one id only, so that no negative exists.
    """
    mined = mine(l2_normalize(features) if normalize else features, pids, metric)
    gap = mined.positive - mined.negative
    if anchors is not None:
        gap = paddle.gather(gap, paddle.to_tensor(np.flatnonzero(anchors)))
    return margin_loss(gap, margin)


@full_precision
def soft_weighted_triplet(
    features: paddle.Tensor,
    pids: Labels,
    margin: float | None = None,
    *,
    metric: Metric = "euclidean",
    stabilizer: float = 0.0,
) -> paddle.Tensor:
    """As :func:`batch_hard_triplet` with weighted means in place of the hardest pairs.

    d+ = sum_p softmax_p(D_ap) D_ap over images of the id (the anchor included), d- = sum_n
    softmax_n(-D_an) D_an over the others. The weights are part of the gradient. With the soft margin this is the
    weighted regularised triplet of AGW (Ye et al., TPAMI 2021).

    Args:
        features: [B, D] float.
        pids: [B] integers.
        margin: ``None`` for the soft margin, a number for the hinge.
        metric: the distance D; fast-reid takes ``"unit_squared"`` for normalised features.
        stabilizer: added to the sums sum_p e^{D_ap - max D} and sum_n e^{-D_an} that divide the weights; AGW's and
            fast-reid's code has 1e-6. Distances beyond ln(1/stabilizer) lose their weight then; 0 has no such limit.

    Raises:
        UserError: the batch holds one id only.
    """
    same = paddle.to_tensor(_mask(features, pids))
    distance = distance_matrix(features, metric)
    excluded = paddle.full_like(distance, float("-inf"))
    positive = paddle.where(same, distance, excluded)
    positive = _weighted_mean(distance, positive - positive.max(1, keepdim=True), stabilizer)
    negative = _weighted_mean(distance, paddle.where(same, excluded, -distance), stabilizer)
    return margin_loss(positive - negative, margin)


def _weighted_mean(distance: paddle.Tensor, exponents: paddle.Tensor, stabilizer: float) -> paddle.Tensor:
    """Row sums of distance·e^x / (sum e^x + stabilizer)."""
    mean = (F.softmax(exponents, axis=1) * distance).sum(1)
    if not stabilizer:
        return mean
    return mean / (1.0 + stabilizer * paddle.exp(-paddle.logsumexp(exponents, axis=1)))


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
