"""ResNet trunks: one composable family (depth × variant), strides and names as in torchvision ("v1.5").

A *variant* is a function that says, for every block, which parts it is made of (:class:`BlockParts`): the
norm layer, another norm after the first convolution (IBN-a), a gate before the shortcut is added (CBAM,
squeeze and excitation), a norm after the addition (IBN-b), groups and widths (ResNeXt). The blocks themselves
know none of these by name. He et al., CVPR 2016; parameter names are those of torchvision's checkpoints.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import paddle
from paddle import nn

from ppcls.arch.backbone.registry import BACKBONES
from ppcls.arch.gears.attention import BiasedSqueezeExcite, ChannelGate, SpatialGate, SqueezeExcite
from ppcls.arch.gears.conv import Conv2D
from ppcls.arch.gears.non_local import NonLocal
from ppcls.arch.gears.norm import IBN, BatchNorm2D, DomainBatchNorm, DomainSelector, InstanceNorm
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
    stride_first: bool = False  # Caffe's ResNet has the stride on the first 1×1 convolution


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
            raise UserError("groups and widths need bottleneck blocks: use depth 50, 101 or 152")
        self.conv1 = conv(c_in, planes, 3, stride)
        self.bn1 = (parts.first_norm or parts.norm)(planes)
        self.conv2 = conv(planes, planes, 3)
        self.bn2 = parts.norm(planes)
        self._finish(c_in, planes, stride, parts)

    def forward(self, x):
        out = self.relu(self.bn1(self.conv1(x)))
        return self._join(self.bn2(self.conv2(out)), x)


class Bottleneck(_Block):
    """1×1, 3×3 (with the stride), 1×1 to four times the planes (depths 50, 101 and 152)."""

    expansion = 4

    def __init__(self, c_in: int, planes: int, stride: int, parts: BlockParts):
        super().__init__()
        width = planes * parts.width_per_group // 64 * parts.groups
        c_out = planes * self.expansion
        self.conv1 = conv(c_in, width, 1, stride if parts.stride_first else 1)
        self.bn1 = (parts.first_norm or parts.norm)(width)
        self.conv2 = conv(width, width, 3, 1 if parts.stride_first else stride, parts.groups)
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
    152: (Bottleneck, (3, 8, 36, 3)),
}
#: Blocks of stages 2 and 3, counted from their ends, that a non-local block follows (fast-reid's places).
NON_LOCAL_BLOCKS = {50: (2, 3), 101: (2, 9)}

FEATURE_DIMS = {depth: STAGE_PLANES[-1] * block.expansion for depth, (block, _) in DEPTHS.items()}


@dataclass(frozen=True)
class TrunkOptions:
    """Choices that a trunk builder may need.

    Attributes:
        batch_norm: makes the network's ordinary 2-D batch norm.
        selector: the domain of the images, for separable networks.
        channel_gate: apply CBAM's channel gate.
        groups, width_per_group: 32 × 8 or 32 × 4 make a ResNeXt.
        stem_relu: the strong baseline's plain networks have no ReLU after the stem's norm.
        caffe: stride on the first convolution of a block, and a max-pool without padding that rounds up.
        non_local: None, or the inner width of non-local blocks: "half" (the paper) or "one" (fast-reid).
    """

    batch_norm: LayerFactory = BatchNorm2D
    selector: DomainSelector | None = None
    channel_gate: bool = False
    groups: int = 1
    width_per_group: int = 64
    stem_relu: bool = True
    caffe: bool = False
    non_local: str | None = None


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
        options: TrunkOptions,
    ):
        super().__init__()
        block, counts = DEPTHS[depth]
        self.conv1 = conv(3, 64, 7, 2)
        self.bn1 = stem_norm(64)
        self.relu = nn.ReLU() if options.stem_relu else nn.Identity()
        self.maxpool = nn.MaxPool2D(3, stride=2, padding=0 if options.caffe else 1, ceil_mode=options.caffe)
        channels, strides = 64, (1, 2, 2, last_stride)
        for stage, (planes, count, stride) in enumerate(zip(STAGE_PLANES, counts, strides, strict=True)):
            blocks = []
            for index in range(count):
                parts = parts_of(stage, index, count)
                blocks.append(block(channels, planes, stride if index == 0 else 1, parts))
                channels = planes * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*blocks))
            setattr(self, f"NL_{stage + 1}", _non_local(depth, stage, channels, options))
        self.out_channels = channels

    def forward(self, x) -> list:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        maps = []
        for blocks, attention in (
            (self.layer1, self.NL_1),
            (self.layer2, self.NL_2),
            (self.layer3, self.NL_3),
            (self.layer4, self.NL_4),
        ):
            plain = len(blocks) - len(attention)
            for index, block in enumerate(blocks):
                x = block(x)
                if index >= plain:
                    x = attention[index - plain](x)
            maps.append(x)
        return maps


def _non_local(depth: int, stage: int, channels: int, options: TrunkOptions) -> nn.LayerList:
    """The non-local blocks behind the last blocks of a stage (0-based); usually none."""
    if options.non_local is None:
        return nn.LayerList()
    if options.non_local not in ("half", "one"):
        raise UserError(f"non_local {options.non_local!r} is unknown; choose 'half' (of the channels) or 'one'")
    if depth not in NON_LOCAL_BLOCKS:
        raise UserError(f"non-local blocks have no published places in depth {depth}; use {sorted(NON_LOCAL_BLOCKS)}")
    count = dict(zip((1, 2), NON_LOCAL_BLOCKS[depth], strict=True)).get(stage, 0)
    inner = channels // 2 if options.non_local == "half" else 1
    return nn.LayerList([NonLocal(channels, inner, options.batch_norm) for _ in range(count)])


def _composed(ibn: str = "", gates: Callable[[TrunkOptions], tuple] = lambda options: ()):
    """A variant of IBN placement (``"a"``, ``"b"`` after the last block, ``"b_all"`` after every block) and gates.

    Pan et al., "Two at Once" (IBN-Net), ECCV 2018: IBN-a mixes the first norm of each block of stages 1–3; IBN-b
    normalises per instance in the stem and after the additions of stages 1 and 2.
    """

    def variant(options: TrunkOptions):
        plain = replace(_shape(options), gates=gates(options))

        def parts_of(stage: int, index: int, count: int) -> BlockParts:
            if ibn == "a" and stage < 3:
                return replace(plain, first_norm=lambda channels: IBN(channels, options.batch_norm))
            if ibn.startswith("b") and stage < 2 and (ibn == "b_all" or index == count - 1):
                return replace(plain, post_norm=("IN", InstanceNorm))
            return plain

        return InstanceNorm if ibn.startswith("b") else options.batch_norm, parts_of

    return variant


def _se(options: TrunkOptions) -> tuple:
    return (("se", SqueezeExcite),)


def _se_biased(options: TrunkOptions) -> tuple:
    return (("se_module", BiasedSqueezeExcite),)


def _cbam(options: TrunkOptions) -> tuple:
    return (("ca", lambda c: ChannelGate(c, applied=options.channel_gate)), ("sa", lambda c: SpatialGate()))


def _separable(options: TrunkOptions):
    def bank(channels):
        return DomainBatchNorm(channels, options.selector, options.batch_norm)

    parts = replace(_shape(options), norm=bank)
    return bank, lambda stage, index, count: parts


def _shape(options: TrunkOptions) -> BlockParts:
    """The widths and strides that every variant shares."""
    return BlockParts(
        options.batch_norm,
        groups=options.groups,
        width_per_group=options.width_per_group,
        stride_first=options.caffe,
    )


VARIANTS = {
    "plain": _composed(),
    "ibn_a": _composed("a"),
    "ibn_b": _composed("b"),
    "ibn_b_all": _composed("b_all"),
    "se": _composed(gates=_se),
    "se_biased": _composed(gates=_se_biased),
    "se_ibn_a": _composed("a", _se),
    "se_ibn_b": _composed("b", _se),
    "se_ibn_b_all": _composed("b_all", _se),
    "cbam": _composed(gates=_cbam),
    "separable": _separable,
}


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
    return ResNet(depth, last_stride, stem_norm, parts_of, options)
