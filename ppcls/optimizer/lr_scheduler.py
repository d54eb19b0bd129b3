"""Learning rates as pure functions of the epoch, so that a resumed run needs no scheduler state."""

from __future__ import annotations

from collections.abc import Sequence


def warmup_multistep(epoch: int, base: float, warmup: int, milestones: Sequence[int], gamma: float = 0.1) -> float:
    """The rate used in 1-based ``epoch``: linear warm-up, then a step down at each milestone.

    ``base·epoch/warmup`` while ``epoch < warmup``, else ``base·gamma^(number of milestones ≤ epoch)``. With base 0.01,
    warmup 10, milestones [61]: .001, .002, …, .009, .01 (epochs 10–60), .001 (from 61), the schedule of AGD's task 1.
    """
    if epoch < warmup:
        return base * epoch / warmup
    return base * gamma ** sum(epoch >= milestone for milestone in milestones)
