"""Global pooling of the last map, [B, C, H, W] → [B, C]."""

from __future__ import annotations

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
