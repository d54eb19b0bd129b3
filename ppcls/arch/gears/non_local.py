"""The non-local block (Wang et al., CVPR 2018), in the form without softmax that the AGW baseline uses."""

from __future__ import annotations

import paddle
from paddle import nn


class NonLocal(nn.Layer):
    """x + BN(W·y) with y = g(x)·(θ(x)ᵀφ(x)/N)ᵀ for x [B, C, H, W], N = H·W.

    The norm's scale starts at zero, so a fresh block passes x unchanged.

    Args:
        channels: C.
        inner: channels of θ, φ and g: C/2 in the paper; 1 in fast-reid, by a slip that its weights share.
        batch_norm: makes the norm.
    """

    def __init__(self, channels: int, inner: int, batch_norm):
        super().__init__()
        self.theta = nn.Conv2D(channels, inner, 1)
        self.phi = nn.Conv2D(channels, inner, 1)
        self.g = nn.Conv2D(channels, inner, 1)
        norm = batch_norm(channels)
        norm.weight.set_value(paddle.zeros([channels]))
        self.W = nn.Sequential(nn.Conv2D(inner, channels, 1), norm)
        self.inner = inner

    def forward(self, x):
        theta, phi, g = (layer(x).flatten(2) for layer in (self.theta, self.phi, self.g))  # [B, inner, N]
        affinity = paddle.matmul(theta, phi, transpose_x=True) / theta.shape[2]  # [B, N, N]
        mixed = paddle.matmul(g, affinity, transpose_y=True)
        return x + self.W(mixed.reshape([-1, self.inner, x.shape[2], x.shape[3]]))
