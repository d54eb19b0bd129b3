"""The re-identification network: trunk → global pooling → BNNeck → classifier."""

from __future__ import annotations

import copy

import numpy as np
from paddle import nn

from ppcls.arch.backbone import BACKBONES
from ppcls.arch.backbone.resnet import FEATURE_DIMS, TrunkOptions
from ppcls.arch.gears.classifier import CLASSIFIERS
from ppcls.arch.gears.norm import BatchNorm1D, BatchNorm2D, DomainBatchNorm, DomainSelector
from ppcls.arch.gears.pooling import POOLINGS
from ppcls.arch.initial import draw_weights
from ppcls.arch.output import ReIDOutput
from ppcls.utils.errors import UserError
from ppcls.utils.seeding import numpy_legacy_rng

__all__ = [
    "Backbone",
    "ReIDNet",
    "ReIDOutput",
    "build_net",
    "check_embedding",
    "count_parameters",
    "feature_dim_of",
]


class Backbone(nn.Layer):
    """Trunk ``base``, global pooling and neck ``bn``; its state is the key ``backbone`` of a checkpoint."""

    def __init__(self, base: nn.Layer, neck: nn.Layer, pooling: str, selector: DomainSelector | None = None):
        super().__init__()
        self.base = base
        self.bn = neck
        self.feature_dim = base.out_channels
        self._selector = selector
        self.pool = POOLINGS.get(pooling)()

    @property
    def num_domains(self) -> int | None:
        """Domains with statistics of their own; None in a network that knows no domains."""
        return None if self._selector is None else self._selector.num_domains

    def forward(self, x, domain=None):
        """Images [B, 3, H, W] → (maps, global_feat [B, D], embedding [B, D])."""
        if self._selector is not None:
            self._selector.select(domain, x.shape[0])
        elif domain is not None:
            raise UserError("this network has no domains; build it with variant='separable'")
        maps = self.base(x)
        global_feat = self.pool(maps[-1])
        return maps, global_feat, self.bn(global_feat)


class ReIDNet(nn.Layer):
    """A network for re-identification.

    Attributes:
        backbone: :class:`Backbone`, saved under ``backbone``.
        classifier: a layer with weight ``W`` [C, D], saved under ``classifier``; None without classes.
        classifier_input: what the classifier reads, "embedding" or "global_feat" (before the neck).
    """

    def __init__(self, backbone: Backbone, classifier: nn.Layer | None, classifier_input: str = "embedding"):
        super().__init__()
        if classifier_input not in ("embedding", "global_feat"):
            raise UserError(f"classifier_input {classifier_input!r} is unknown; choose 'embedding' or 'global_feat'")
        self.classifier_input = classifier_input
        self.backbone = backbone
        self.classifier = classifier
        self._frozen = False

    @property
    def num_classes(self) -> int:
        """Number of classes, 0 without a classifier."""
        return 0 if self.classifier is None else self.classifier.num_classes

    @property
    def feature_dim(self) -> int:
        """D, the size of ``global_feat`` and ``embedding``."""
        return self.backbone.feature_dim

    def forward(self, x, labels=None, domain=None) -> ReIDOutput:
        """Images float32 [B, 3, H, W] → :class:`ReIDOutput`.

        Args:
            x: normalised images.
            labels: int64 [B], only used by classifiers with a margin.
            domain: int or one int per image, only for separable networks (default 0).
        """
        maps, global_feat, embedding = self.backbone(x, domain)
        features = embedding if self.classifier_input == "embedding" else global_feat
        logits = None if self.classifier is None else self.classifier(features, labels)
        return ReIDOutput(maps, global_feat, embedding, logits)

    def expand(self, n_new: int, generator: np.random.RandomState) -> None:
        """Add ``n_new`` classes in FRONT of the old ones; old labels shift by ``n_new``.

        The classifier's weight becomes a new parameter: build the optimizer afterwards.
        """
        if self.classifier is None:
            raise UserError("this network has no classifier to expand; build it with num_classes >= 1")
        self.classifier.expand(n_new, generator)

    def copy(self) -> ReIDNet:
        """A deep copy (parameters, running statistics, modes, frozen or not) that shares nothing."""
        return copy.deepcopy(self)

    def freeze(self) -> ReIDNet:
        """Evaluation mode for good: no gradients, fixed statistics; a later ``train()`` has no effect."""
        self.eval()
        self._frozen = True
        for parameter in self.parameters():
            parameter.stop_gradient = True
        for layer in self.sublayers():
            if isinstance(layer, (BatchNorm1D, BatchNorm2D)):
                layer._use_global_stats = True  # holds even if an enclosing layer switches to training
        return self

    def train(self) -> None:
        """Training mode; nothing on a frozen network."""
        if not self._frozen:
            super().train()

    def param_groups(self) -> list[tuple[str, list]]:
        """Trainable parameters as ``[("base", …), ("neck", …), ("classifier", …)]``, in a fixed order.

        A pooling with parameters (``gemp``) is another group, ``"pooling"``, at the end.
        """
        parts = {"base": self.backbone.base, "neck": self.backbone.bn, "classifier": self.classifier}
        if self.backbone.pool.parameters():
            parts["pooling"] = self.backbone.pool
        return [
            (name, [] if part is None else [p for p in part.parameters() if not p.stop_gradient])
            for name, part in parts.items()
        ]


def feature_dim_of(depth: int) -> int:
    """Feature size of a depth: 512 for 18 and 34, else 2048. UserError for other depths."""
    if depth not in FEATURE_DIMS:
        raise UserError(f"--depth {depth} is unknown; choose one of {sorted(FEATURE_DIMS)}")
    return FEATURE_DIMS[depth]


def count_parameters(layer: nn.Layer) -> int:
    """Number of weights of a layer, without running statistics (which Paddle lists among the parameters)."""
    statistics = ("_mean", "_variance")
    return sum(p.size for name, p in layer.named_parameters() if name.rpartition(".")[2] not in statistics)


def check_embedding(depth: int, embedding: int) -> None:
    """UserError, naming the right value, if ``--embedding`` contradicts ``--depth``."""
    right = feature_dim_of(depth)
    if embedding != right:
        raise UserError(f"--embedding {embedding} does not fit --depth {depth}; use --embedding {right}")


def build_net(
    depth: int = 50,
    num_classes: int = 0,
    last_stride: int = 2,
    pooling: str = "avg",
    neck_bias: str = "train",
    variant: str = "plain",
    classifier: str = "linear",
    seed: int = 0,
    *,
    bn_unbiased: bool = True,
    num_domains: int = 2,
    cbam_channel: bool = False,
    groups: int = 1,
    width_per_group: int = 64,
    stem_relu: bool = True,
    caffe: bool = False,
    non_local: str | None = None,
    backbone: str = "resnet",
    classifier_input: str = "embedding",
) -> ReIDNet:
    """Build a network with freshly drawn weights.

    The draw depends on ``seed``, the architecture's name and each parameter's name alone: neither on Paddle's
    global seed nor on what was built before. Convolutions ~ N(0, 2/(k²·C_out)) (He et al., ICCV 2015).

    Args:
        depth: 18, 34, 50, 101 or 152.
        num_classes: 0 builds no classifier.
        last_stride: stride of stage 4, 1 or 2.
        pooling: "avg", "max", "gem" (generalised mean, exponent 3) or "gemp" (trained exponent).
        neck_bias: "train" (as the published PyTorch results) or "frozen" at 0 (as in the BNNeck paper).
        variant: "plain", "ibn_a", "ibn_b" (official places), "ibn_b_all", "se", "se_ibn_a", "se_ibn_b", "se_ibn_b_all",
            "se_biased", "cbam" or "separable" (one batch norm per domain).
        classifier: "linear", "linear_bias", "sphere", "arc", "nonorm_arc", "arcface", "arcface_turned", "cosface" or
            "circle".
        seed: of the weights.
        bn_unbiased: True: running variances accumulate the unbiased batch variance, as in PyTorch, where the
            published numbers come from. False: whatever Paddle's kernel does (on CPU the biased one).
        num_domains: banks of the separable variant.
        cbam_channel: apply CBAM's channel gate (the published network builds it, but does not apply it).
        groups, width_per_group: 32 and 8 or 4 for ResNeXt.
        stem_relu, caffe, non_local: see :class:`~ppcls.arch.backbone.resnet.TrunkOptions`.
        backbone: registered family name.
        classifier_input: "embedding", or "global_feat" for the published networks that classify before the neck
            (AlignedReID++, the strong baseline without neck, and its self-distillation).

    Raises:
        UserError: an unknown name or impossible value; the message lists the possible ones.
    """
    if neck_bias not in ("train", "frozen"):
        raise UserError(f"neck_bias {neck_bias!r} is unknown; choose 'train' or 'frozen'")
    if num_classes < 0:
        raise UserError(f"num_classes {num_classes} is impossible; use 0 (no classifier) or more")

    def norm_2d(channels):
        return BatchNorm2D(channels, bn_unbiased)

    def norm_1d(channels):
        return BatchNorm1D(channels, bn_unbiased)

    selector = DomainSelector(num_domains) if variant == "separable" else None
    options = TrunkOptions(norm_2d, selector, cbam_channel, groups, width_per_group, stem_relu, caffe, non_local)
    base = BACKBONES.get(backbone)(depth, last_stride, variant, options)
    dim = base.out_channels
    neck = DomainBatchNorm(dim, selector, norm_1d) if selector else norm_1d(dim)
    widths = "" if groups == 1 else f"-{groups}x{width_per_group}d"
    draw_weights(base, seed, f"{backbone}{depth}-{variant}{widths}")
    if neck_bias == "frozen":
        for name, parameter in neck.named_parameters():
            if name.endswith("bias"):
                parameter.stop_gradient = True
    head = None
    if num_classes:
        rng = numpy_legacy_rng(seed, "classifier", num_classes)
        head = CLASSIFIERS.get(classifier)(dim, num_classes, rng)
    return ReIDNet(Backbone(base, neck, pooling, selector), head, classifier_input)
