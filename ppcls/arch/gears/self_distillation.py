"""Branches of a self-distilling network: the maps of all four stages brought to one shape.

Zhang et al., "Be Your Own Teacher", ICCV 2019; gates and scalers as in its authors' later code, which the re-ID seed
uses. The branches serve training alone: the trunk goes on without the gates, so leaving them out changes no embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from ppcls.arch.gears.classifier import CLASSIFIERS
from ppcls.arch.gears.conv import Conv2D
from ppcls.arch.gears.norm import BatchNorm1D, BatchNorm2D
from ppcls.arch.initial import draw_weights

CELL = 4
"""A branch averages its last map over cells of 4×4 pixels."""


def _conv(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> Conv2D:
    zero = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))
    return Conv2D(c_in, c_out, kernel, stride, padding=kernel // 2, groups=groups, weight_attr=zero, bias_attr=False)


class SeparableConv(nn.Layer):
    """Two depthwise-separable convolutions, [B, c_in, H, W] → [B, c_out, ⌈H/2⌉, ⌈W/2⌉]; the first has stride 2."""

    def __init__(self, c_in: int, c_out: int, batch_norm=BatchNorm2D):
        super().__init__()
        self.op = nn.Sequential(
            _conv(c_in, c_in, 3, 2, groups=c_in),
            _conv(c_in, c_in, 1),
            batch_norm(c_in),
            nn.ReLU(),
            _conv(c_in, c_in, 3, 1, groups=c_in),
            _conv(c_in, c_out, 1),
            batch_norm(c_out),
            nn.ReLU(),
        )

    def forward(self, x):
        return self.op(x)


class DistillationBranches(nn.Layer):
    """Stage maps → vectors of one length, by stage.

    Behind stages b = 1, 2, 3: a gate σ(up(ReLU(BN(Sep(x))))) on the map, then 4 − b separable convolutions, each
    halving the map and doubling the channels, then the mean over cells of 4×4. Behind stage 4: the mean over as many
    cells as the others have (2×1 for 256×128 pixels; any other size gives equal shapes too).

    Names are those of the published files without their ``base.``: ``attention<b>.…`` and ``scala<b>.…``.

    Args:
        channels: of the four stage maps, each twice the one before, e.g. (256, 512, 1024, 2048).
        seed: of the weights.
        bn_unbiased: see :class:`~ppcls.arch.gears.norm.BatchNorm2D`.
    """

    def __init__(self, channels: Sequence[int], seed: int = 0, *, bn_unbiased: bool = True):
        super().__init__()
        if len(channels) != 4 or any(b != 2 * a for a, b in zip(channels, channels[1:], strict=False)):
            raise ValueError(f"four stages that double their channels are needed, not {list(channels)}")

        def norm(count):
            return BatchNorm2D(count, bn_unbiased)

        for stage, count in enumerate(channels[:3], start=1):
            self.add_sublayer(f"attention{stage}", nn.Sequential(SeparableConv(count, count, norm), norm(count)))
            wider = [SeparableConv(width, 2 * width, norm) for width in channels[stage - 1 : 3]]
            self.add_sublayer(f"scala{stage}", nn.Sequential(*wider))
        self.dim = channels[3]
        draw_weights(self, seed, f"self-distillation-{channels[0]}")

    def gate(self, stage: int, x):
        """σ of the upsampled gate of stage 1, 2 or 3, in the shape of its map ``x``."""
        gate = F.relu(getattr(self, f"attention{stage}")(x))
        return F.sigmoid(F.interpolate(gate, size=x.shape[2:], mode="bilinear", align_corners=False))

    def forward(self, maps: Sequence) -> dict:
        """Four stage maps [B, C_i, H_i, W_i] → {4: …, 3: …, 2: …, 1: …}, each [B, C_4·cells]."""
        scaled = {}
        for stage in (3, 2, 1):
            x = maps[stage - 1]
            scaled[stage] = getattr(self, f"scala{stage}")(self.gate(stage, x) * x)
        cells = [max(1, size // CELL) for size in scaled[3].shape[2:]]
        pooled = {stage: F.adaptive_avg_pool2d(x, cells) for stage, x in {4: maps[3], **scaled}.items()}
        return {stage: x.flatten(1) for stage, x in pooled.items()}


class BranchClassifiers(nn.Layer):
    """A neck and a classifier for each student branch: {stage: vector} → {stage: logits [B, C]}.

    Args:
        dim: channels of a branch, :attr:`DistillationBranches.dim`; its cells are averaged.
        num_classes: C.
        students: stages that have a classifier.
        rng: of the classifiers' weights.
        classifier: a name of ``CLASSIFIERS``.
    """

    def __init__(
        self,
        dim: int,
        num_classes: int,
        students: Sequence[int],
        rng: np.random.RandomState,
        classifier: str = "linear",
        *,
        bn_unbiased: bool = True,
    ):
        super().__init__()
        self.dim, self.students = dim, tuple(students)
        for stage in self.students:
            neck = BatchNorm1D(dim, bn_unbiased)
            neck.bias.stop_gradient = True  # BNNeck: the shift stays 0
            self.add_sublayer(f"neck{stage}", neck)
            self.add_sublayer(f"classifier{stage}", CLASSIFIERS.get(classifier)(dim, num_classes, rng))

    def forward(self, vectors: Mapping, labels=None) -> dict:
        logits = {}
        for stage in self.students:
            pooled = vectors[stage].reshape([vectors[stage].shape[0], self.dim, -1]).mean(-1)
            logits[stage] = getattr(self, f"classifier{stage}")(getattr(self, f"neck{stage}")(pooled), labels)
        return logits
