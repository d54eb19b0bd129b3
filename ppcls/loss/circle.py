"""Pairwise circle loss and its plain cosine counterpart.

Sun et al., "Circle Loss: A Unified Perspective of Pair Similarity Optimization", CVPR 2020, equation 5 with one
optimum each (1 + m for positives, -m for negatives). Without the adaptive weights it is the pairwise form of CosFace
(Wang et al., CVPR 2018) that fast-reid ships. The classification forms are classifiers (``CLASSIFIERS``).
"""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F

from ppcls.loss.labels import Labels, label_array, same_id
from ppcls.loss.pairwise import cosine_matrix
from ppcls.loss.precision import full_precision
from ppcls.loss.triplet import require_negatives


@full_precision
def circle_pairs(features: paddle.Tensor, pids: Labels, margin: float = 0.25, gamma: float = 64.0) -> paddle.Tensor:
    """Mean over anchors of ln(1 + sum_n e^{gamma a_n (s_n - m)} · sum_p e^{-gamma a_p (s_p - 1 + m)}).

    s are cosines, without the anchor itself; a_p = max(1 + m - s_p, 0) and a_n = max(s_n + m, 0) are constants in
    the gradient.

    Args:
        features: [B, D] float, any length.
        pids: [B] integers. An anchor without another image of its id contributes 0.
        margin: m; the paper has 0.25.
        gamma: scale; the paper has 256 for faces, re-ID baselines 64 or 128.

    Raises:
        UserError: the batch holds one id only.
    """
    cosine = cosine_matrix(features, features)
    to_positive = F.relu(1.0 + margin - cosine.detach())
    to_negative = F.relu(cosine.detach() + margin)
    return _log_sum_pairs(
        cosine, pids, -gamma * to_positive * (cosine - 1.0 + margin), gamma * to_negative * (cosine - margin)
    )


@full_precision
def cosface_pairs(features: paddle.Tensor, pids: Labels, margin: float = 0.25, gamma: float = 64.0) -> paddle.Tensor:
    """Mean over anchors of ln(1 + sum_n e^{gamma (s_n + m)} · sum_p e^{-gamma s_p}); arguments as above."""
    cosine = cosine_matrix(features, features)
    return _log_sum_pairs(cosine, pids, -gamma * cosine, gamma * (cosine + margin))


def _log_sum_pairs(
    cosine: paddle.Tensor, pids: Labels, positive: paddle.Tensor, negative: paddle.Tensor
) -> paddle.Tensor:
    """Mean of softplus(LSE over negatives + LSE over positives without the anchor), rows of [B, B] exponents."""
    ids = label_array(pids, cosine.shape[0])
    other = ~require_negatives(same_id(ids))
    mate = ~other & ~np.eye(len(ids), dtype=bool)
    gap = _masked_lse(negative, other) + _masked_lse(positive, mate)
    # softplus without Paddle's float threshold of 20, above which it would drop e^{-gap}
    return F.softplus(gap, threshold=40.0).mean()


def _masked_lse(exponents: paddle.Tensor, mask: np.ndarray) -> paddle.Tensor:
    """Log-sum-exp over the chosen entries of each row; a large negative number for an empty row."""
    return paddle.logsumexp(paddle.where(paddle.to_tensor(mask), exponents, paddle.full_like(exponents, -1e9)), axis=1)
