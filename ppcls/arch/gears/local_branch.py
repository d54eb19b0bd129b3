"""Stripe features of AlignedReID++: the body cut into rows, [B, C, H, W] → [B, d, H].

Luo et al., "AlignedReID++: Dynamically Matching Local Information for Person Re-Identification", Pattern Recognition
2019, section 3.2.
"""

from __future__ import annotations

import math

import paddle
import paddle.nn.functional as F
from paddle import nn

from ppcls.arch.gears.norm import BatchNorm2D
from ppcls.utils.seeding import numpy_rng

SQUARED_FLOOR = 1e-12


def stripe_features(maps):
    """A map [B, C, H, W] as H unit vectors per image, [B, C, H]: maximum over the width, unit length over channels.

    This is what the published networks compare in evaluation, without the trained branch.
    """
    return _unit(maps.max(axis=3))


def _unit(stripes):
    return stripes * paddle.rsqrt((stripes * stripes).sum(1, keepdim=True).clip(min=SQUARED_FLOOR))


class LocalBranch(nn.Layer):
    """Trained stripe features: batch norm, ReLU, maximum over the width, 1×1 convolution to ``dim``, unit length.

    Parameters are called ``bn.*`` and ``conv1.{weight,bias}``, as in the published files.

    Args:
        channels: C of the map.
        dim: d; the paper has 128.
        seed: of the convolution, ~ U(±1/√C) like its bias (PyTorch's default, which the reference keeps).
        bn_unbiased: see :class:`~ppcls.arch.gears.norm.BatchNorm2D`.
    """

    def __init__(self, channels: int = 2048, dim: int = 128, seed: int = 0, *, bn_unbiased: bool = True):
        super().__init__()
        self.bn = BatchNorm2D(channels, bn_unbiased)
        zero = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))
        self.conv1 = nn.Conv2D(channels, dim, 1, weight_attr=zero, bias_attr=zero)
        bound = 1.0 / math.sqrt(channels)
        for name, parameter in self.conv1.named_parameters():
            rng = numpy_rng(seed, "local branch", name)
            parameter.set_value(rng.uniform(-bound, bound, parameter.shape).astype("float32"))

    def forward(self, maps):
        """The last map [B, C, H, W] → unit stripe vectors [B, dim, H]."""
        stripes = F.relu(self.bn(maps)).max(axis=3, keepdim=True)
        return _unit(self.conv1(stripes).squeeze(3))
