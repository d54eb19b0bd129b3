"""Learning rates as pure functions of the epoch or step, so that a resumed run needs no scheduler state.

Published code counts epochs from 1 or from 0 and steps its schedulers before or after an epoch; each function says
which number it takes and returns the rate that is *used* there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal


def warmup_multistep(epoch: int, base: float, warmup: int, milestones: Sequence[int], gamma: float = 0.1) -> float:
    """The rate used in 1-based ``epoch``: linear warm-up, then a step down at each milestone.

    ``base·epoch/warmup`` while ``epoch < warmup``, else ``base·gamma^(number of milestones ≤ epoch)``. With base 0.01,
    warmup 10, milestones [61]: .001, .002, …, .009, .01 (epochs 10–60), .001 (from 61), the schedule of AGD's task 1.
    """
    if epoch < warmup:
        return base * epoch / warmup
    return base * gamma ** sum(epoch >= milestone for milestone in milestones)


def strong_baseline(
    epoch: int,
    base: float = 3.5e-4,
    milestones: Sequence[int] = (40, 70),
    gamma: float = 0.1,
    warmup: int = 10,
    factor: float = 0.01,
    method: Literal["linear", "constant"] = "linear",
) -> float:
    """The rate of the strong baseline (Luo et al., CVPRW 2019) and its self-distillation, in 1-based ``epoch``.

    ``base·W·gamma^(number of milestones ≤ epoch)``; W grows linearly from ``factor`` at epoch 0 to 1 at ``warmup``
    (``"constant"``: stays ``factor`` until then). Defaults: 3.815e-5 in epoch 1, 3.5e-4 from 10, 3.5e-5 from 40.
    """
    rate = base * gamma ** sum(epoch >= milestone for milestone in milestones)
    if epoch >= warmup:
        return rate
    if method not in ("linear", "constant"):
        raise ValueError(f"unknown warm-up {method!r}; choose linear or constant")
    return rate * (factor if method == "constant" else _warm(epoch / warmup, factor))


def centroids_reid(
    epoch: int, base: float = 3.5e-4, milestones: Sequence[int] = (40, 70), gamma: float = 0.1, warmup: int = 10
) -> float:
    """The rate of Centroids-ReID in 0-based ``epoch``: base·(epoch+1)/warmup below ``warmup``, then steps down."""
    return warmup_multistep(epoch + 1, base, warmup, [milestone + 1 for milestone in milestones], gamma)


def step_decay(epoch: int, base: float = 2e-4, step: int = 150, gamma: float = 0.1) -> float:
    """base·gamma^⌊epoch/step⌋ in 0-based ``epoch``; the defaults are those of AlignedReID++."""
    return base * gamma ** (epoch // step)


def exponential(epoch: int, base: float, gamma: float) -> float:
    """base·gamma^epoch in 0-based ``epoch`` (centres: 0.5 and 0.995; learned loss weights: 1e-4 and 0.95)."""
    return base * gamma**epoch


def cosine_delay(
    epoch: float, base: float = 3.5e-4, least: float = 7e-7, epochs: float = 60, delay: float = 30
) -> float:
    """``base`` until ``delay``, then half a cosine down to ``least`` at ``epochs``.

    Loshchilov and Hutter, "SGDR", ICLR 2017, one period, with fast-reid's delay. ``epoch`` is 0-based.
    """
    if epoch <= delay or epochs <= delay:
        return base
    return _cosine((epoch - delay) / (epochs - delay), base, least)


def cosine_delay_iterations(
    iteration: int,
    per_epoch: int,
    base: float = 3.5e-4,
    least: float = 7e-7,
    epochs: int = 60,
    delay: int = 30,
    warmup: int = 2000,
    factor: float = 0.1,
) -> float:
    """The rate of fast-reid's stronger baseline (SBS) in 0-based ``iteration``.

    Linear warm-up over ``warmup`` iterations from ``factor``·base; :func:`cosine_delay` by whole epochs, not before
    the epoch in which the warm-up ends.

    Args:
        per_epoch: iterations of an epoch.
    """
    if iteration < warmup:
        return base * _warm(iteration / warmup, factor)
    return cosine_delay(iteration // per_epoch, base, least, epochs, max(math.ceil(warmup / per_epoch), delay))


Decay = Literal["cosine", "steps", "poly", "linear"]


def mindspore(
    step: int,
    total: int,
    warmup: int,
    decay: Decay = "cosine",
    most: float = 0.05,
    first: float = 0.0,
    last: float = 3.5e-6,
) -> float:
    """The rate of the MindSpore port of AlignedReID++ in 0-based ``step`` of ``total``.

    Linear warm-up from ``first`` to ``most`` over ``warmup`` steps (the cosine's is one step ahead), then a decay:
    half a cosine to ``last``; steps of 0.1 at 30, 60 and 80 % of ``total``; a parabola to 0; or a line to ``last``.
    (Their tables hold these numbers in float32.)
    """
    if decay not in ("cosine", "steps", "poly", "linear"):
        raise ValueError(f"unknown decay {decay!r}; choose cosine, steps, poly or linear")
    if step < warmup:
        return first + (most - first) * (step + (decay == "cosine")) / warmup
    passed = (step - warmup) / (total - warmup)
    if decay == "cosine":
        return _cosine(passed, most, last)
    if decay == "steps":
        return most * 0.1 ** sum(step >= share * total for share in (0.3, 0.6, 0.8))
    return most * (1.0 - passed) ** 2 if decay == "poly" else most - (most - last) * passed


def _warm(progress: float, factor: float) -> float:
    return factor * (1.0 - progress) + progress


def _cosine(progress: float, base: float, least: float) -> float:
    return least + 0.5 * (base - least) * (1.0 + math.cos(math.pi * progress))
