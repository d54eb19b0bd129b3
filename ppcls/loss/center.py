"""Center loss: features are pulled to a learned centre per class.

Wen et al., "A Discriminative Feature Learning Approach for Deep Face Recognition", ECCV 2016, equation 2 (without its
factor 1/2); Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-Identification", CVPRW 2019, weight
5e-4. The centres have an optimiser of their own, :class:`ppcls.optimizer.CenterOptimizer`.
"""

from __future__ import annotations

import numpy as np
import paddle

from ppcls.loss.labels import Labels, class_labels
from ppcls.loss.precision import full_precision

_LEAST, _MOST = 1e-12, 1e12  # of a squared distance


def draw_centers(classes: int, dim: int, rng: np.random.RandomState) -> paddle.Tensor:
    """A trainable table of centres [classes, dim] ~ N(0, 1), float32."""
    centers = paddle.create_parameter([classes, dim], "float32")
    centers.set_value(rng.randn(classes, dim).astype(np.float32))
    return centers


@full_precision
def center_loss(
    features: paddle.Tensor, labels: Labels, centers: paddle.Tensor, *, squared: bool = True
) -> paddle.Tensor:
    """Mean over the batch of |f_i - c_{y_i}|^2, or of the distance itself.

    Args:
        features: [B, D] float.
        labels: [B] integers in 0..C-1.
        centers: [C, D], differentiable. Only the rows of the batch's classes are read and get a gradient.
        squared: False for the unsquared distance (0 has no gradient).

    Raises:
        UserError: a label without a centre.
    """
    rows = class_labels(labels, features.shape[0], centers.shape[0], "table of centres")
    delta = features - paddle.gather(centers, paddle.to_tensor(rows))
    distance = paddle.clip((delta * delta).sum(1), _LEAST, _MOST)
    return distance.mean() if squared else paddle.sqrt(distance).mean()
