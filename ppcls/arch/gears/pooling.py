"""Global pooling of the last map, [B, C, H, W] → [B, C].

GeM: Radenović et al., "Fine-tuning CNN Image Retrieval with No Human Annotation", TPAMI 2019, equation 4.
"""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn

from ppcls.utils.registry import Registry

POOLINGS = Registry("pooling")


@POOLINGS.register("avg")
class AveragePool(nn.Layer):
    """Mean over H and W."""

    def forward(self, x):
        return F.adaptive_avg_pool2d(x, 1).squeeze([2, 3])  # unlike flatten, twice differentiable


@POOLINGS.register("max")
class MaxPool(nn.Layer):
    """Largest value over H and W."""

    def forward(self, x):
        return F.adaptive_max_pool2d(x, 1).flatten(1)


def _generalized_mean(x, p, least: float):
    """(mean of max(x, least)^p)^{1/p} over H and W, in float32 even under automatic mixed precision."""
    with paddle.amp.auto_cast(enable=False):
        x = x if x.dtype == paddle.float64 else x.astype("float32")
        return x.clip(min=least).pow(p).mean(axis=[2, 3]).pow(1.0 / p)


@POOLINGS.register("gem")
class GeneralizedMeanPool(nn.Layer):
    """GeM with a fixed exponent: (mean of max(x, 1e-6)^p)^{1/p}, p = 3; float32.

    p = 1 is the mean, a large p tends to the maximum.
    """

    def __init__(self, p: float = 3.0, least: float = 1e-6):
        super().__init__()
        self.p, self.least = float(p), least

    def forward(self, x):
        return _generalized_mean(x, self.p, self.least)


@POOLINGS.register("gemp")
class LearnedGeneralizedMeanPool(nn.Layer):
    """GeM whose exponent is trained: parameter ``p`` [1], starting at 3 (fast-reid's GeMP, whose files call it so)."""

    def __init__(self, p: float = 3.0, least: float = 1e-6):
        super().__init__()
        self.p = self.create_parameter([1], attr=paddle.ParamAttr(initializer=nn.initializer.Constant(p)))
        self.least = least

    def forward(self, x):
        return _generalized_mean(x, self.p, self.least)
