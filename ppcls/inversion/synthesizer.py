"""The optimisation that turns noise into images a frozen teacher takes for its training data.

Source: Yin et al., CVPR 2020 (DeepInversion), with the two-resolution schedule that AGD (Lu et al., CVPR 2022)
uses for person images.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from ppcls.data.transform import MEAN, STD
from ppcls.inversion import prior
from ppcls.inversion.config import DreamConfig
from ppcls.inversion.statistics import NormProbe, statistics_loss, statistics_terms
from ppcls.utils.errors import UserError

_BETA1, _BETA2, _EPSILON = 0.5, 0.9, 1e-8


@dataclass
class StepTerms:
    """Losses of one step, as tensors that nobody has waited for yet; :meth:`numbers` does."""

    total: paddle.Tensor
    statistics: paddle.Tensor
    cross_entropy: paddle.Tensor
    prior: paddle.Tensor
    logits: paddle.Tensor
    targets: paddle.Tensor

    def numbers(self) -> dict[str, float]:
        """``total``, ``statistics`` (unweighted), ``cross_entropy``, ``prior`` (weighted) and ``accuracy`` in [0, 1].

        Raises:
            UserError: the loss is not finite.
        """
        hits = (self.logits.argmax(axis=1) == self.targets).astype("float32").mean()
        values = paddle.stack([self.total, self.statistics, self.cross_entropy, self.prior, hits]).tolist()
        if not np.isfinite(values[0]):
            raise UserError(f"dreaming diverged, the loss is {values[0]}; lower --lr, and check the teacher's weights")
        return dict(zip(("total", "statistics", "cross_entropy", "prior", "accuracy"), values, strict=True))


@dataclass
class DreamedBatch:
    """Finished images and what the teacher thinks of exactly these pixels (before JPEG).

    Attributes:
        images: uint8 [B, H, W, 3], RGB.
        targets: int64 [B].
        cross_entropy: float32 [B], of each image.
        confidence: float32 [B], the teacher's probability of the target.
        predicted: int64 [B], the teacher's most probable class.
        bn_loss: batch-norm statistics loss (unweighted) of the batch; the statistics are the batch's, so
            there is no such number of a single image.
        best_loss: lowest total loss of phase 2.
    """

    images: np.ndarray
    targets: np.ndarray
    cross_entropy: np.ndarray
    confidence: np.ndarray
    predicted: np.ndarray
    bn_loss: float
    best_loss: float


@contextlib.contextmanager
def frozen(net: nn.Layer) -> Iterator[nn.Layer]:
    """Evaluation mode and no gradients for the parameters inside the block; the earlier state comes back after it."""
    layers = net.sublayers(include_self=True)
    modes = [layer.training for layer in layers]
    parameters = net.parameters()
    flags = [parameter.stop_gradient for parameter in parameters]
    try:
        net.eval()
        for parameter in parameters:
            parameter.stop_gradient = True
        yield net
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.training = mode
        for parameter, flag in zip(parameters, flags, strict=True):
            parameter.stop_gradient = flag


class Synthesizer:
    """Dreams batches of images out of a frozen teacher.

    Args:
        net: teacher; ``net(x)`` has ``logits`` [B, C]. It must be frozen (``net.freeze()``, or inside
            :func:`frozen`): its statistics are the target, and gradients of its weights would be wasted work.
        config: what to optimise.
        student: a second frozen network, only with ``config.adi_scale`` != 0; its last C columns are the
            teacher's classes.

    Raises:
        UserError: a network that is not frozen or has no classifier, or a student without ``adi_scale`` or the
            other way round.
    """

    def __init__(self, net: nn.Layer, config: DreamConfig, student: nn.Layer | None = None):
        if (student is None) != (config.adi_scale == 0):
            raise UserError("the adaptive term needs both a student and adi_scale other than 0; give both or neither")
        for name, model in (("teacher", net), ("student", student)):
            if model is not None:
                _check_frozen(name, model)
        self.net = net
        self.student = student
        self.config = config

    def start(self, targets: np.ndarray, rng: np.random.RandomState) -> Dream:
        """A new batch for classes ``targets`` int64 [B]; everything random in it comes from ``rng``."""
        return Dream(self, np.asarray(targets, dtype=np.int64), rng)

    def generate(self, targets: np.ndarray, rng: np.random.RandomState) -> DreamedBatch:
        """All steps of one batch in one call."""
        dream = self.start(targets, rng)
        while not dream.done:
            dream.step()
        return dream.finish()

    def forward(self, x: paddle.Tensor, targets: paddle.Tensor) -> StepTerms:
        """Losses of network inputs ``x`` [B, 3, h, w] (pooled and flipped already) for ``targets`` int64 [B]."""
        config = self.config
        with NormProbe(self.net) as probe:
            logits = self.net(x).logits
            statistics = statistics_loss(statistics_terms(probe.take()), config.first_bn_multiplier)
        cross_entropy = F.cross_entropy(logits, targets)
        image = self._prior(x)
        total = config.main_loss_multiplier * cross_entropy + config.r_feature * statistics + image
        if self.student is not None:
            agreement = prior.student_agreement(self.student(x).logits, logits, reference=config.adi_reference)
            total = total + config.adi_scale * agreement
        return StepTerms(total, statistics.detach(), cross_entropy.detach(), image.detach(), logits.detach(), targets)

    def _prior(self, x):
        config = self.config
        image = config.l2 * prior.image_l2(x)
        if config.tv_l2:
            image = image + config.tv_l2 * prior.total_variation_l2(x)
        if config.tv_l1:
            image = image + config.tv_l1 * prior.total_variation_l1(x)
        return image


class Dream:
    """One batch being optimised: call :meth:`step` until :attr:`done`, then :meth:`finish`.

    Adam's moments are kept from phase 1 to phase 2; the learning-rate schedule starts anew. In phase 1 the
    network sees 2x2 averages of the pixels (a border row or column of an odd size is averaged over the pixels
    that exist, so every pixel is optimised); in phase 2 the pixels. In each step the whole batch is flipped with
    probability ½. The best pixels are those *after* the update whose loss, measured before it, was the lowest
    of phase 2.
    """

    def __init__(self, synthesizer: Synthesizer, targets: np.ndarray, rng: np.random.RandomState):
        config = synthesizer.config
        self._synthesizer = synthesizer
        self._config = config
        self.targets = targets
        self.iteration = 0
        shape = (len(targets), 3, config.height, config.width)
        noise = rng.standard_normal(shape).astype(np.float32)
        self._flips = rng.random_sample(config.total_steps) > 0.5
        self._targets = paddle.to_tensor(targets)
        self._x = paddle.to_tensor(noise)
        self._moment1 = paddle.zeros(shape, dtype="float32")
        self._moment2 = paddle.zeros(shape, dtype="float32")
        self._best = self._x
        self._best_loss = paddle.to_tensor(np.float32(np.inf))

    @property
    def done(self) -> bool:
        """Whether all steps have been made."""
        return self.iteration >= self._config.total_steps

    @property
    def phase(self) -> int:
        """1 or 2: the phase of the next step (2 when done)."""
        return 1 if self.iteration < self._config.steps[0] else 2

    def learning_rate(self) -> float:
        """Rate of the next step."""
        config, second = self._config, self.phase == 2
        start = config.steps[0] if second else 0
        return prior.learning_rate(self.iteration - start, config.steps[second], config.lr, config.warmup)

    def step(self) -> StepTerms:
        """One update of the pixels. The result holds the losses before it; reading them waits for the device."""
        x = self._x.detach()
        x.stop_gradient = False
        seen = F.avg_pool2d(x, 2, stride=2, ceil_mode=True, exclusive=True) if self.phase == 1 else x
        if self._flips[self.iteration]:
            seen = paddle.flip(seen, axis=[3])
        terms = self._synthesizer.forward(seen, self._targets)
        terms.total.backward()
        terms.total = terms.total.detach()
        self._update(x.grad, terms.total)
        self.iteration += 1
        return terms

    def _update(self, gradient, loss):
        with paddle.no_grad():
            step = self.iteration + 1
            self._moment1 = _BETA1 * self._moment1 + (1 - _BETA1) * gradient
            self._moment2 = _BETA2 * self._moment2 + (1 - _BETA2) * paddle.square(gradient)
            denominator = paddle.sqrt(self._moment2) * (1 / (1 - _BETA2**step) ** 0.5) + _EPSILON
            rate = self.learning_rate() / (1 - _BETA1**step)
            self._x = prior.clip_pixels(self._x - rate * self._moment1 / denominator)
            if self.phase == 2:
                # compared on the device: asking for the number would stall a GPU in every step
                better = loss < self._best_loss
                self._best = paddle.where(better, self._x, self._best)
                self._best_loss = paddle.where(better, loss, self._best_loss)

    def state(self) -> dict[str, np.ndarray]:
        """Everything that :meth:`restore` needs to go on bit for bit, as arrays."""
        return {
            "iteration": np.asarray(self.iteration, dtype=np.int64),
            "targets": self.targets,
            "x": self._x.numpy(),
            "moment1": self._moment1.numpy(),
            "moment2": self._moment2.numpy(),
            "best": self._best.numpy(),
            "best_loss": self._best_loss.numpy(),
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from :meth:`state` of a batch that was started with the same targets and an equal generator."""
        if not np.array_equal(state["targets"], self.targets) or state["x"].shape != tuple(self._x.shape):
            raise ValueError("the saved state is of another batch")
        self.iteration = int(state["iteration"])
        self._x = paddle.to_tensor(state["x"])
        self._moment1 = paddle.to_tensor(state["moment1"])
        self._moment2 = paddle.to_tensor(state["moment2"])
        self._best = paddle.to_tensor(state["best"])
        self._best_loss = paddle.to_tensor(state["best_loss"])

    def finish(self) -> DreamedBatch:
        """Truncate the best pixels to 8 bits and ask the teacher about them.

        Raises:
            UserError: no step of phase 2 had a finite loss.
        """
        best_loss = float(self._best_loss.numpy())
        if not np.isfinite(best_loss):
            raise UserError("dreaming diverged, no finite loss in phase 2; lower --lr, and check the teacher's weights")
        images = to_uint8(self._best.numpy())
        with paddle.no_grad():
            terms = self._synthesizer.forward(paddle.to_tensor(normalise(images)), self._targets)
            losses = F.cross_entropy(terms.logits, self._targets, reduction="none").flatten().numpy()
        return DreamedBatch(
            images,
            self.targets,
            losses,
            np.exp(-losses),
            terms.logits.argmax(axis=1).numpy(),
            float(terms.statistics.numpy()),
            best_loss,
        )


def to_uint8(x: np.ndarray) -> np.ndarray:
    """Normalised float [B, 3, H, W] → uint8 [B, H, W, 3], truncated (not rounded) as published."""
    mean, std = np.asarray(MEAN, dtype=np.float32), np.asarray(STD, dtype=np.float32)
    pixels = np.clip(x.transpose(0, 2, 3, 1) * std + mean, 0, 1)
    return np.ascontiguousarray((pixels * np.float32(255)).astype(np.uint8))


def normalise(images: np.ndarray) -> np.ndarray:
    """uint8 [B, H, W, 3] → normalised float32 [B, 3, H, W]."""
    mean, std = np.asarray(MEAN, dtype=np.float32), np.asarray(STD, dtype=np.float32)
    pixels = (images.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def _check_frozen(name, model):
    if any(layer.training for layer in model.sublayers(include_self=True)):
        raise UserError(f"the {name} is in training mode; freeze it first, with net.freeze() or frozen(net)")
    if any(not parameter.stop_gradient for parameter in model.parameters()):
        raise UserError(f"the {name}'s parameters still ask for gradients; freeze it first, with net.freeze()")
