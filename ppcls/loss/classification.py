"""Cross entropy over identities, plain and with label smoothing.

Label smoothing: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision",
CVPR 2016, section 7.
"""

from __future__ import annotations

import numpy as np
import paddle
import paddle.nn.functional as F

from ppcls.loss.labels import Labels, label_array
from ppcls.loss.precision import full_precision
from ppcls.loss.softmax import log_softmax
from ppcls.utils.errors import UserError


@full_precision
def cross_entropy(logits: paddle.Tensor, labels: Labels) -> paddle.Tensor:
    """Mean of -log softmax(logits)[label].

    Args:
        logits: [B, C] float.
        labels: [B] integers in 0..C-1.

    Raises:
        UserError: a label outside 0..C-1, or not one label per row.
    """
    return F.nll_loss(log_softmax(logits), _checked(labels, logits))


@full_precision
def label_smoothing_cross_entropy(logits: paddle.Tensor, labels: Labels, epsilon: float = 0.1) -> paddle.Tensor:
    """Cross entropy against (1 - epsilon)·onehot + epsilon/C, averaged over the batch.

    Args:
        logits: [B, C] float.
        labels: [B] integers in 0..C-1.
        epsilon: mass spread evenly over all C classes, in [0, 1].

    Raises:
        UserError: a label outside 0..C-1, or not one label per row.
    """
    target = _checked(labels, logits)
    log_probability = log_softmax(logits)
    return (1.0 - epsilon) * F.nll_loss(log_probability, target) - epsilon * log_probability.mean()


def _checked(labels: Labels, logits: paddle.Tensor) -> paddle.Tensor:
    batch, classes = logits.shape
    ids = label_array(labels, batch)
    outside = ids[(ids < 0) | (ids >= classes)]
    if len(outside):
        raise UserError(
            f"class label {outside[0]} for a classifier with {classes} classes (0..{classes - 1}); "
            "expand the classifier or relabel the data"
        )
    return labels.reshape([-1]) if isinstance(labels, paddle.Tensor) else paddle.to_tensor(np.asarray(ids))
