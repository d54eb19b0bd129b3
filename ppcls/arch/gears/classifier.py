"""Classifiers on embeddings: linear, cosine (Sphere), with a margin (Arc, ArcFace, CosFace, Circle), several heads.

All share ``forward(x [B, D], labels=None) -> logits [B, C]`` and one weight ``W`` [C, D] ~ N(0, 0.001²),
without bias (but for ``linear_bias``). ``labels`` (int64 [B]) matter to the margin heads only; without labels
these give the logits without margin. Each is a part of its network, so ``W`` is among the parameters that are
trained and saved.
"""

from __future__ import annotations

import math

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from ppcls.utils.errors import UserError
from ppcls.utils.registry import Registry

CLASSIFIERS = Registry("classifier")

WEIGHT_STD = 0.001
NORM_FLOOR = 1e-12


class Classifier(nn.Layer):
    """Base: the weight ``W`` [C, D] and its growth; a subclass says what the logits are."""

    def __init__(self, feature_dim: int, num_classes: int, rng: np.random.RandomState):
        super().__init__()
        self.feature_dim = feature_dim
        self.W = self._parameter(self._draw(num_classes, rng))

    def _draw(self, rows: int, rng: np.random.RandomState) -> np.ndarray:
        return (WEIGHT_STD * rng.randn(rows, self.feature_dim)).astype("float32")

    def _parameter(self, values: np.ndarray):
        zero = paddle.ParamAttr(initializer=nn.initializer.Constant(0.0))
        parameter = self.create_parameter(list(values.shape), attr=zero)
        parameter.set_value(values)
        return parameter

    @property
    def num_classes(self) -> int:
        """Number of rows of ``W``."""
        return self.W.shape[0]

    def expand(self, n_new: int, rng: np.random.RandomState) -> None:
        """Add ``n_new`` freshly drawn classes in FRONT: W ← [W_new; W_old]; old labels shift by ``n_new``.

        Makes a new parameter, so build the optimizer afterwards. UserError if ``n_new`` is negative.
        """
        if n_new < 0:
            raise UserError(f"cannot expand a classifier by {n_new} classes; the number must be 0 or more")
        if n_new:
            frozen = self.W.stop_gradient
            self.W = self._parameter(np.concatenate([self._draw(n_new, rng), self.W.numpy()]))
            self.W.stop_gradient = frozen

    def forward(self, x, labels=None):
        raise NotImplementedError


@CLASSIFIERS.register("linear")
class Linear(Classifier):
    """Logits x·Wᵀ."""

    def forward(self, x, labels=None):
        return F.linear(x, self.W.t())


@CLASSIFIERS.register("linear_bias")
class BiasedLinear(Classifier):
    """Logits x·Wᵀ + b, both drawn from U(±1/√D): what networks without a neck have (PyTorch's default layer)."""

    def __init__(self, feature_dim, num_classes, rng):
        super().__init__(feature_dim, num_classes, rng)
        self.b = self._parameter(self._uniform(rng, num_classes))

    def _uniform(self, rng, *shape):
        bound = self.feature_dim**-0.5
        return rng.uniform(-bound, bound, shape).astype("float32")

    def _draw(self, rows, rng):
        return self._uniform(rng, rows, self.feature_dim)

    def expand(self, n_new, rng):
        super().expand(n_new, rng)
        if n_new:
            frozen = self.b.stop_gradient
            self.b = self._parameter(np.concatenate([self._uniform(rng, n_new), self.b.numpy()]))
            self.b.stop_gradient = frozen

    def forward(self, x, labels=None):
        return F.linear(x, self.W.t(), self.b)


def _norms(x):
    """Row norms [N, 1], at least 1e-12."""
    return paddle.linalg.norm(x, p=2, axis=1, keepdim=True).clip(min=NORM_FLOOR)


def _cosines(x, weight):
    x, weight = (F.normalize(rows, axis=1, epsilon=NORM_FLOOR) for rows in (x, weight))
    return F.linear(x, weight.t())


def _one_hot(labels, cosine):
    return F.one_hot(labels, cosine.shape[1]).astype(cosine.dtype)


def _turned(cosine, margin: float):
    """cos(θ + m) from cos θ."""
    # the floor keeps the gradient finite at |cos| = 1
    sine = (1.0 - cosine * cosine).clip(min=NORM_FLOOR).sqrt()
    return cosine * math.cos(margin) - sine * math.sin(margin)


def _add_margin(cosine, labels, margin: float):
    """cos(θ + m) at the labels, continued by the line cos θ - m·sin(π - m) where θ + m would exceed π."""
    at_label = _one_hot(labels, cosine)
    target = (cosine * at_label).sum(axis=1, keepdim=True)
    turned = _turned(target, margin)
    line = target - margin * math.sin(math.pi - margin)
    moved = paddle.where(target > math.cos(math.pi - margin), turned, line)
    return cosine + at_label * (moved - target)


@CLASSIFIERS.register("sphere")
class Sphere(Classifier):
    """Logits s·cos(x, w), no margin."""

    def __init__(self, feature_dim, num_classes, rng, scale: float = 20.0):
        super().__init__(feature_dim, num_classes, rng)
        self.scale = scale

    def forward(self, x, labels=None):
        return self.scale * _cosines(x, self.W)


@CLASSIFIERS.register("arc")
class Arc(Classifier):
    """ArcFace (Deng et al., CVPR 2019): s·cos(θ + m) at the label, s·cos θ elsewhere; s = 20, m = 0.1."""

    def __init__(self, feature_dim, num_classes, rng, scale: float = 20.0, margin: float = 0.1):
        super().__init__(feature_dim, num_classes, rng)
        self.scale, self.margin = scale, margin

    def forward(self, x, labels=None):
        cosine = _cosines(x, self.W)
        if labels is not None:
            cosine = _add_margin(cosine, labels, self.margin)
        return self.scale * cosine


@CLASSIFIERS.register("nonorm_arc")
class NoNormArc(Classifier):
    """Arc with ‖x‖·‖w‖ in place of the scale, m = 0.06: a linear classifier with an angular margin."""

    def __init__(self, feature_dim, num_classes, rng, margin: float = 0.06):
        super().__init__(feature_dim, num_classes, rng)
        self.margin = margin

    def forward(self, x, labels=None):
        cosine = _cosines(x, self.W)
        if labels is not None:
            cosine = _add_margin(cosine, labels, self.margin)
        return cosine * _norms(x) * _norms(self.W).t()


@CLASSIFIERS.register("arcface")
class ArcFace(Arc):
    """:class:`Arc` with the paper's scale and margin: s = 64, m = 0.5."""

    def __init__(self, feature_dim, num_classes, rng, scale: float = 64.0, margin: float = 0.5):
        super().__init__(feature_dim, num_classes, rng, scale, margin)


@CLASSIFIERS.register("arcface_turned")
class TurnedArcFace(ArcFace):
    """cos(θ + m) at the label for every θ, as fast-reid has it: past θ = π − m the logit rises again."""

    def forward(self, x, labels=None):
        cosine = _cosines(x, self.W)
        if labels is not None:
            at_label = _one_hot(labels, cosine)
            target = (cosine * at_label).sum(axis=1, keepdim=True)
            cosine = cosine + at_label * (_turned(target, self.margin) - target)
        return self.scale * cosine


@CLASSIFIERS.register("cosface")
class CosFace(Classifier):
    """CosFace (Wang et al., CVPR 2018): s·(cos θ − m) at the label, s·cos θ elsewhere; s = 64, m = 0.35."""

    def __init__(self, feature_dim, num_classes, rng, scale: float = 64.0, margin: float = 0.35):
        super().__init__(feature_dim, num_classes, rng)
        self.scale, self.margin = scale, margin

    def forward(self, x, labels=None):
        cosine = _cosines(x, self.W)
        if labels is not None:
            cosine = cosine - self.margin * _one_hot(labels, cosine)
        return self.scale * cosine


@CLASSIFIERS.register("circle")
class Circle(Classifier):
    """Circle loss with class labels (Sun et al., CVPR 2020, equation 6; fast-reid: s = 64, m = 0.35).

    s·a_p·(cos θ − 1 + m) at the label and s·a_n·(cos θ − m) elsewhere, with a_p = max(1 + m − cos θ, 0) and a_n =
    max(cos θ + m, 0) constant in the gradient; s·cos θ without labels.
    """

    def __init__(self, feature_dim, num_classes, rng, scale: float = 64.0, margin: float = 0.35):
        super().__init__(feature_dim, num_classes, rng)
        self.scale, self.margin = scale, margin

    def forward(self, x, labels=None):
        cosine = _cosines(x, self.W)
        if labels is None:
            return self.scale * cosine
        fixed, m = cosine.detach(), self.margin
        positive = F.relu(1.0 + m - fixed) * (cosine - 1.0 + m)
        negative = F.relu(fixed + m) * (cosine - m)
        at_label = _one_hot(labels, cosine)
        return self.scale * (at_label * positive + (1.0 - at_label) * negative)


class MultiBranch(nn.Layer):
    """Named classifiers side by side: ``forward({name: x}, labels) -> {name: logits}``. Does not expand."""

    def __init__(self, branches: dict[str, Classifier]):
        super().__init__()
        self.branches = nn.LayerDict(branches)

    def forward(self, x: dict, labels=None) -> dict:
        unknown = sorted(set(x) - set(self.branches.keys()))
        if unknown:
            known = sorted(self.branches.keys())
            raise UserError(f"no classifier for branch {unknown[0]!r}; choose from {known}")
        return {name: self.branches[name](features, labels) for name, features in x.items()}
