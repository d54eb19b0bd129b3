"""Mutual learning: two networks that train each other.

Zhang et al., "Deep Mutual Learning", CVPR 2018 (class probabilities); Zhang et al., "AlignedReID: Surpassing
Human-Level Performance in Person Re-Identification", 2017, section 3.3 (distance matrices).
"""

from __future__ import annotations

import paddle

from ppcls.loss.pairwise import euclidean_dist
from ppcls.loss.precision import full_precision
from ppcls.loss.softmax import log_softmax


@full_precision
def metric_mutual(features: paddle.Tensor, other: paddle.Tensor) -> paddle.Tensor:
    """Mean squared difference of the two networks' distance matrices of one batch.

    Args:
        features, other: [B, D], [B, D'] float, global features of the same images. Both get a gradient (as in the
            authors' code); detach one for the paper's one-sided form.
    """
    return (euclidean_dist(features) - euclidean_dist(other)).square().mean()


@full_precision
def class_mutual(logits: paddle.Tensor, other: paddle.Tensor) -> paddle.Tensor:
    """KL(p_other ‖ p), summed over the batch and the classes; ``other`` is a constant.

    Args:
        logits, other: [B, C] float. Each network has its own loss with the roles exchanged.
    """
    log_p, log_other = log_softmax(logits), log_softmax(other.detach())
    return (log_other.exp() * (log_other - log_p)).sum()
