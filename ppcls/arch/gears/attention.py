"""Gates on a residual branch: squeeze-and-excitation (Hu et al., CVPR 2018) and CBAM's two (Woo et al., ECCV 2018)."""

from __future__ import annotations

import paddle
import paddle.nn.functional as F
from paddle import nn


def _conv(c_in: int, c_out: int, kernel: int, bias: bool = False) -> nn.Conv2D:
    zero = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))
    return nn.Conv2D(c_in, c_out, kernel, padding=kernel // 2, weight_attr=zero, bias_attr=zero if bias else False)


class _Matrix(nn.Layer):
    """x·Wᵀ for x [B, in]; ``weight`` [out, in] as PyTorch stores it, so that published files fit as they are."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        zero = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))
        self.weight = self.create_parameter([c_out, c_in], attr=zero)

    def forward(self, x):
        return F.linear(x, self.weight.t())


class SqueezeExcite(nn.Layer):
    """x·σ(W₂·relu(W₁·avgpool(x))) for x [B, C, H, W], without biases; the middle has C/``ratio`` values.

    Names are those of IBN-Net's and fast-reid's files: ``fc.0.weight``, ``fc.2.weight``.
    """

    def __init__(self, channels: int, ratio: int = 16):
        super().__init__()
        self.fc = nn.Sequential(_Matrix(channels, channels // ratio), nn.ReLU(), _Matrix(channels // ratio, channels))

    def forward(self, x):
        gate = F.sigmoid(self.fc(F.adaptive_avg_pool2d(x, 1).squeeze([2, 3])))
        return x * gate.unsqueeze([2, 3])


class BiasedSqueezeExcite(nn.Layer):
    """:class:`SqueezeExcite` with biases, as 1×1 convolutions ``fc1``, ``fc2`` (the SENet files of Cadene's zoo)."""

    def __init__(self, channels: int, ratio: int = 16):
        super().__init__()
        self.fc1 = _conv(channels, channels // ratio, 1, bias=True)
        self.fc2 = _conv(channels // ratio, channels, 1, bias=True)

    def forward(self, x):
        return x * F.sigmoid(self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)))))


class ChannelGate(nn.Layer):
    """x·σ(MLP(avgpool(x)) + MLP(maxpool(x))) for x [B, C, H, W]; the shared MLP narrows by ``ratio``.

    The published AGD network builds this gate but never applies it. ``applied=False`` reproduces that: the
    parameters exist (and count), are not trained, and x passes unchanged.
    """

    def __init__(self, channels: int, ratio: int = 16, applied: bool = True):
        super().__init__()
        self.fc1 = _conv(channels, channels // ratio, 1)
        self.fc2 = _conv(channels // ratio, channels, 1)
        self.applied = applied
        if not applied:
            for parameter in self.parameters():
                parameter.stop_gradient = True

    def forward(self, x):
        if not self.applied:
            return x
        pooled = (F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1))
        return x * F.sigmoid(sum(self.fc2(F.relu(self.fc1(p))) for p in pooled))


class SpatialGate(nn.Layer):
    """x·σ(conv7×7([mean over channels; max over channels])) for x [B, C, H, W]."""

    def __init__(self):
        super().__init__()
        self.conv1 = _conv(2, 1, 7)

    def forward(self, x):
        both = paddle.concat([x.mean(axis=1, keepdim=True), x.max(axis=1, keepdim=True)], axis=1)
        return x * F.sigmoid(self.conv1(both))
