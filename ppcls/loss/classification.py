"""Cross entropy over identities, plain and with label smoothing.

Label smoothing: Szegedy et al., "Rethinking the Inception Architecture for Computer Vision",
CVPR 2016, section 7.
"""

from __future__ import annotations

from typing import Literal

import paddle
import paddle.nn.functional as F

from ppcls.loss.labels import Labels, class_labels
from ppcls.loss.precision import full_precision
from ppcls.loss.softmax import log_softmax


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
def label_smoothing_cross_entropy(
    logits: paddle.Tensor, labels: Labels, epsilon: float = 0.1, over: Literal["all", "others"] = "all"
) -> paddle.Tensor:
    """Cross entropy against smoothed labels, averaged over the batch.

    ``over="all"``: (1 - epsilon)·onehot + epsilon/C, as in the paper. ``over="others"``: 1 - epsilon at the label,
    epsilon/(C - 1) at the other classes, as in fast-reid.

    Args:
        logits: [B, C] float; C >= 2 for ``"others"``.
        labels: [B] integers in 0..C-1.
        epsilon: mass taken from the label, in [0, 1]; the paper has 0.1.
        over: the classes that share it.

    Raises:
        UserError: a label outside 0..C-1, or not one label per row.
    """
    target = _checked(labels, logits)
    log_probability = log_softmax(logits)
    at_label = -F.nll_loss(log_probability, target)
    if over == "all":
        return -(1.0 - epsilon) * at_label - epsilon * log_probability.mean()
    classes = logits.shape[1]
    elsewhere = (log_probability.mean() * classes - at_label) / (classes - 1)
    return -(1.0 - epsilon) * at_label - epsilon * elsewhere


@full_precision
def adaptive_label_smoothing_cross_entropy(logits: paddle.Tensor, labels: Labels, share: float = 0.2) -> paddle.Tensor:
    """Smoothing over the other classes by epsilon_i = share·softmax(logits_i)[label_i]: what is learned is smoothed.

    fast-reid's "adaptive" mode. The smoothed labels are constants: the gradient flows through the log-probabilities.

    Args:
        logits: [B, C] float, C >= 2.
        labels: [B] integers in 0..C-1.
        share: of the predicted probability, in [0, 1].

    Raises:
        UserError: a label outside 0..C-1, or not one label per row.
    """
    target = _checked(labels, logits).astype("int64")
    log_probability = log_softmax(logits)
    at_label = paddle.take_along_axis(log_probability, target.reshape([-1, 1]), axis=1).squeeze(1)
    epsilon = share * at_label.detach().exp()
    elsewhere = (log_probability.sum(1) - at_label) / (logits.shape[1] - 1)
    return -((1.0 - epsilon) * at_label + epsilon * elsewhere).mean()


def _checked(labels: Labels, logits: paddle.Tensor) -> paddle.Tensor:
    ids = class_labels(labels, *logits.shape)
    return labels.reshape([-1]) if isinstance(labels, paddle.Tensor) else paddle.to_tensor(ids)
