"""Image priors, the learning-rate table and the student term of DeepInversion.

Pure functions of tensors and numbers. Source: Yin et al., "Dreaming to Distill: Data-free Knowledge Transfer via
DeepInversion", CVPR 2020, equations 3-4 (priors) and 7-8 (adaptive term).
"""

from __future__ import annotations

import functools
import math

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle.autograd import PyLayer

from ppcls.data.transform import MEAN, STD

# (rows, columns) between the two pixels of a difference: horizontal, vertical and both diagonals
_OFFSETS = ((0, 1), (1, 0), (1, 1), (1, -1))
_TINY = 1e-30


def total_variation_l1(x: paddle.Tensor) -> paddle.Tensor:
    """Σ over the four neighbour differences of the mean absolute difference.

    Args:
        x: float [B, C, H, W].

    Returns:
        scalar, differentiable in ``x``; the sub-gradient of a difference of 0 is 0.
    """
    return _TotalVariation.apply(x, 1)


def total_variation_l2(x: paddle.Tensor) -> paddle.Tensor:
    """Σ over the four neighbour differences of the Frobenius norm over the *whole batch*.

    It grows with √B: a weight found for one batch size does not carry over to another.

    Args:
        x: float [B, C, H, W].

    Returns:
        scalar, differentiable in ``x``; the sub-gradient of a constant image is 0.
    """
    return _TotalVariation.apply(x, 2)


def image_l2(x: paddle.Tensor) -> paddle.Tensor:
    """Mean over the batch of the Euclidean norm of each image. ``x`` [B, ...] → scalar."""
    squares = paddle.square(x).reshape([x.shape[0], -1]).sum(axis=1)
    return paddle.sqrt(squares + _TINY).mean()


class _TotalVariation(PyLayer):
    """Both total variations with their closed-form gradient.

    Neighbours are compared in the flattened tensor, where a shift is a contiguous slice; the pairs that wrap
    around a border are masked out. Strided slices and their gradients are about forty times slower on CPU.
    """

    @staticmethod
    def forward(ctx, x, power):
        ctx.save_for_backward(x)
        ctx.power = power
        total = paddle.zeros([], dtype=x.dtype)
        for _, difference, count in _differences(x):
            size = paddle.square(difference).sum().sqrt() if power == 2 else difference.abs().sum() / count
            total = total + size
        return total

    @staticmethod
    def backward(ctx, upstream):
        (x,) = ctx.saved_tensor()
        gradient = paddle.zeros([x.size], dtype=x.dtype)
        for shift, difference, count in _differences(x):
            if ctx.power == 2:
                norm = paddle.square(difference).sum().sqrt().clip(min=_TINY)
                slope = difference / norm
            else:
                slope = paddle.sign(difference) / count
            padding = paddle.zeros([shift], dtype=x.dtype)
            gradient = gradient + paddle.concat([slope, padding]) - paddle.concat([padding, slope])
        return gradient.reshape(x.shape) * upstream


def _differences(x):
    """Yield (flat shift, x[i] - x[i + shift] with invalid pairs 0, number of valid pairs)."""
    flat = x.reshape([-1])
    shape = tuple(x.shape)
    for rows, columns in _OFFSETS:
        count = shape[0] * shape[1] * (shape[2] - rows) * (shape[3] - abs(columns))
        if count <= 0:
            continue
        shift = rows * shape[3] + columns
        mask = _pair_mask(shape, rows, columns, str(x.dtype), str(x.place))
        yield shift, (flat[:-shift] - flat[shift:]) * mask, count


@functools.lru_cache(maxsize=16)
def _pair_mask(shape, rows, columns, dtype, place):
    batch, channels, height, width = shape
    valid = np.zeros((height, width), dtype=np.float32)
    valid[: height - rows, max(0, -columns) : width - max(0, columns)] = 1
    mask = np.tile(valid.ravel(), batch * channels)[: batch * channels * height * width - (rows * width + columns)]
    return paddle.to_tensor(mask).astype(dtype.rpartition(".")[2])


def pixel_bounds() -> tuple[np.ndarray, np.ndarray]:
    """Normalised values of black and white: two float32 arrays [3], (0 - mean) / std and (1 - mean) / std."""
    mean, std = np.asarray(MEAN, dtype=np.float64), np.asarray(STD, dtype=np.float64)
    return (-mean / std).astype(np.float32), ((1 - mean) / std).astype(np.float32)


def clip_pixels(x: paddle.Tensor) -> paddle.Tensor:
    """Clamp normalised images [B, 3, H, W] channel by channel to what a real pixel can be."""
    low, high = _full_bounds(tuple(x.shape), str(x.dtype), str(x.place))
    return paddle.minimum(paddle.maximum(x, low), high)


@functools.lru_cache(maxsize=4)
def _full_bounds(shape, dtype, place):
    # whole images of bounds: broadcasting a [1, 3, 1, 1] tensor is far slower on CPU than comparing equal shapes
    return tuple(
        paddle.to_tensor(np.broadcast_to(bound[:, None, None], shape).astype(np.float32)).astype(
            dtype.rpartition(".")[2]
        )
        for bound in pixel_bounds()
    )


def warmup_steps(steps: int) -> int:
    """Length of the linear warm-up of a phase of ``steps`` steps: a tenth of it, at most the published 100.

    The published phases have 2000 and 1000 steps and warm up for 100; a demo of 60 steps would otherwise spend
    all its time below the peak rate.
    """
    return min(100, steps // 10)


def learning_rate(iteration: int, steps: int, base: float = 0.2, warmup: int | None = None) -> float:
    """Learning rate of step ``iteration`` (from 0) in a phase of ``steps`` steps.

    Linear warm-up ``base·(i+1)/warmup``, then a half cosine ``base·½(1+cos(π(i-warmup)/(steps-warmup)))``.

    Args:
        warmup: steps of warm-up, None for :func:`warmup_steps`.
    """
    warmup = warmup_steps(steps) if warmup is None else warmup
    if iteration < warmup:
        return base * (iteration + 1) / warmup
    return 0.5 * base * (1 + math.cos(math.pi * (iteration - warmup) / (steps - warmup)))


def jensen_shannon(student: paddle.Tensor, teacher: paddle.Tensor, temperature: float = 3.0) -> paddle.Tensor:
    """Jensen-Shannon divergence ½KL(P‖M) + ½KL(Q‖M), M = ½(P+Q), of two sets of logits, mean over the batch.

    Args:
        student: logits [B, K], K >= C. With more columns than the teacher its *last* C count, which are the
            teacher's classes in a network grown by prepending new rows.
        teacher: logits [B, C].
        temperature: of both softmaxes. Probabilities are clamped to [.001, .999] and renormalised.

    Returns:
        scalar in [0, ln 2], differentiable in both.
    """
    p = _soft_probabilities(student[:, -teacher.shape[1] :], temperature)
    q = _soft_probabilities(teacher, temperature)
    m = 0.5 * (p + q)
    return 0.5 * (_kl(p, m) + _kl(q, m))


def student_agreement(
    student: paddle.Tensor, teacher: paddle.Tensor, temperature: float = 3.0, reference: bool = False
) -> paddle.Tensor:
    """ln 2 - clip(JS, 0, ln 2): minimised by images about which student and teacher disagree.

    Args:
        student: logits [B, K], K >= C, old classes last.
        teacher: logits [B, C].
        temperature: of the softmaxes.
        reference: compute what the published code computes. It applies softmax to the student twice, which
            makes the student nearly uniform, and measures KL(M‖P) and KL(M‖Q) in place of their reverses.

    Returns:
        scalar in [0, ln 2].
    """
    if reference:
        p = _soft_probabilities(F.softmax(student, axis=1)[:, -teacher.shape[1] :], temperature)
        q = _soft_probabilities(teacher, temperature)
        m = 0.5 * (p + q)
        divergence = 0.5 * (_kl(m, p) + _kl(m, q))
    else:
        divergence = jensen_shannon(student, teacher, temperature)
    return math.log(2) - paddle.clip(divergence, 0.0, math.log(2))


def _soft_probabilities(logits, temperature):
    clamped = paddle.clip(F.softmax(logits / temperature, axis=1), 0.001, 0.999)
    return clamped / clamped.sum(axis=1, keepdim=True)


def _kl(a, b):
    return (a * (paddle.log(a) - paddle.log(b))).sum(axis=1).mean()
