"""ResNet trunks: one composable family (depth × variant), strides and names as in torchvision ("v1.5").

A *variant* is a function that says, for every block, which parts it is made of (:class:`BlockParts`): the
norm layer, another norm after the first convolution (IBN-a), a gate before the shortcut is added (CBAM,
squeeze and excitation), a norm after the addition (IBN-b), groups and widths (ResNeXt). The blocks themselves
know none of these by name. He et al., CVPR 2016; parameter names are those of torchvision's checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import paddle
from paddle import nn

from ppcls.arch.backbone.registry import BACKBONES
from ppcls.arch.gears.attention import ChannelGate, SpatialGate
from ppcls.arch.gears.conv import Conv2D
from ppcls.arch.gears.norm import IBN, BatchNorm2D, DomainBatchNorm, DomainSelector
from ppcls.utils.errors import UserError

LayerFactory = Callable[[int], nn.Layer]  # number of channels -> layer

STAGE_PLANES = (64, 128, 256, 512)


@dataclass(frozen=True)
class BlockParts:
    """What one residual block is made of; every factory takes the number of channels.

    Gates and the norm after the addition bring the attribute name under which public checkpoints know them.
    """

    norm: LayerFactory
    first_norm: LayerFactory | None = None  # after the first convolution; None = ``norm``
    gates: tuple[tuple[str, LayerFactory], ...] = ()  # (name, layer) on the branch, before the addition
    post_norm: tuple[str, LayerFactory] | None = None  # (name, layer) after the addition
    groups: int = 1
    width_per_group: int = 64


def conv(c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> Conv2D:
    """A convolution without bias, with "same" padding, left at zero (the network draws its weights)."""
    return Conv2D(
        c_in,
        c_out,
        kernel,
        stride=stride,
        padding=kernel // 2,
        groups=groups,
        weight_attr=paddle.ParamAttr(initializer=nn.initializer.Constant(0.0)),
        bias_attr=False,
    )


class _Block(nn.Layer):
    """What both blocks share: gate, shortcut, addition, norm after it, ReLU."""

    expansion: int

    def _finish(self, c_in: int, c_out: int, stride: int, parts: BlockParts) -> None:
        self._gates = [name for name, _ in parts.gates]
        for name, factory in parts.gates:
            setattr(self, name, factory(c_out))
        self.downsample = None
        if stride != 1 or c_in != c_out:
            self.downsample = nn.Sequential(conv(c_in, c_out, 1, stride), parts.norm(c_out))
        self._post_norm = parts.post_norm[0] if parts.post_norm else None
        if parts.post_norm:
            setattr(self, self._post_norm, parts.post_norm[1](c_out))
        self.relu = nn.ReLU()

    def _join(self, branch, x):
        for name in self._gates:
            branch = getattr(self, name)(branch)
        out = branch + (x if self.downsample is None else self.downsample(x))
        if self._post_norm is not None:
            out = getattr(self, self._post_norm)(out)
        return self.relu(out)


class BasicBlock(_Block):
    """Two 3×3 convolutions (depths 18 and 34)."""

    expansion = 1

    def __init__(self, c_in: int, planes: int, stride: int, parts: BlockParts):
        super().__init__()
        if parts.groups != 1 or parts.width_per_group != 64:
            raise UserError("groups and widths need bottleneck blocks: use depth 50 or 101")
        self.conv1 = conv(c_in, planes, 3, stride)
        self.bn1 = (parts.first_norm or parts.norm)(planes)
        self.conv2 = conv(planes, planes, 3)
        self.bn2 = parts.norm(planes)
        self._finish(c_in, planes, stride, parts)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        return self._join(self.bn2(self.conv2(out)), x)


class Bottleneck(_Block):
    """1×1, 3×3 (with the stride), 1×1 to four times the planes (depths 50 and 101)."""

    expansion = 4

    def __init__(self, c_in: int, planes: int, stride: int, parts: BlockParts):
        super().__init__()
        width = planes * parts.width_per_group // 64 * parts.groups
        c_out = planes * self.expansion
        self.conv1 = conv(c_in, width, 1)
        self.bn1 = (parts.first_norm or parts.norm)(width)
        self.conv2 = conv(width, width, 3, stride, parts.groups)
        self.bn2 = parts.norm(width)
        self.conv3 = conv(width, c_out, 1)
        self.bn3 = parts.norm(c_out)
        self._finish(c_in, c_out, stride, parts)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return self._join(self.bn3(self.conv3(out)), x)


DEPTHS: dict[int, tuple[type[_Block], tuple[int, int, int, int]]] = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
}

FEATURE_DIMS = {depth: STAGE_PLANES[-1] * block.expansion for depth, (block, _) in DEPTHS.items()}


class ResNet(nn.Layer):
    """A trunk: images [B, 3, H, W] → the four stage outputs [B, C_i, H_i, W_i], each after its last ReLU.

    ``parts_of(stage, index, count)`` (all 0-based, ``count`` blocks in the stage) gives the parts of a block.
    At 256×128 the maps are 64×32, 32×16, 16×8 and 8×4 (16×8 with ``last_stride=1``).
    """

    def __init__(
        self,
        depth: int,
        last_stride: int,
        stem_norm: LayerFactory,
        parts_of: Callable[[int, int, int], BlockParts],
    ):
        super().__init__()
        block, counts = DEPTHS[depth]
        self.conv1 = conv(3, 64, 7, 2)
        self.bn1 = stem_norm(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2D(3, stride=2, padding=1)
        channels, strides = 64, (1, 2, 2, last_stride)
        for stage, (planes, count, stride) in enumerate(zip(STAGE_PLANES, counts, strides, strict=True)):
            blocks = []
            for index in range(count):
                parts = parts_of(stage, index, count)
                blocks.append(block(channels, planes, stride if index == 0 else 1, parts))
                channels = planes * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
        self.out_channels = channels

    def forward(self, x) -> list:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = []
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = stage(x)
            maps.append(x)
        return maps


@dataclass(frozen=True)
class TrunkOptions:
    """Choices that a trunk builder may need; ``batch_norm`` makes the network's ordinary 2-D batch norm."""

    batch_norm: LayerFactory = BatchNorm2D
    selector: DomainSelector | None = None
    channel_gate: bool = False


def _plain(options: TrunkOptions):
    parts = BlockParts(options.batch_norm)
    return options.batch_norm, lambda stage, index, count: parts


def _ibn_a(options: TrunkOptions):
    plain = BlockParts(options.batch_norm)
    mixed = BlockParts(options.batch_norm, first_norm=lambda c: IBN(c, options.batch_norm))
    return options.batch_norm, lambda stage, index, count: plain if stage == 3 else mixed


def _cbam(options: TrunkOptions):
    gates = (("ca", lambda c: ChannelGate(c, applied=options.channel_gate)), ("sa", lambda c: SpatialGate()))
    parts = BlockParts(options.batch_norm, gates=gates)
    return options.batch_norm, lambda stage, index, count: parts


def _separable(options: TrunkOptions):
    def bank(channels):
        return DomainBatchNorm(channels, options.selector, options.batch_norm)

    parts = BlockParts(bank)
    return bank, lambda stage, index, count: parts


VARIANTS = {"plain": _plain, "ibn_a": _ibn_a, "cbam": _cbam, "separable": _separable}


@BACKBONES.register("resnet")
def build_resnet(depth: int, last_stride: int, variant: str, options: TrunkOptions) -> ResNet:
    """A trunk of the family. UserError names the known depths, strides and variants."""
    if depth not in DEPTHS:
        raise UserError(f"--depth {depth} is unknown; choose one of {sorted(DEPTHS)}")
    if last_stride not in (1, 2):
        raise UserError(f"last stride {last_stride} is not possible; choose 1 or 2")
    if variant not in VARIANTS:
        raise UserError(f"backbone variant {variant!r} is unknown; choose one of {sorted(VARIANTS)}")
    stem_norm, parts_of = VARIANTS[variant](options)
    return ResNet(depth, last_stride, stem_norm, parts_of)
