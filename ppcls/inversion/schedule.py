"""Which classes each batch dreams: a plan fixed in advance by the seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ppcls.utils.errors import UserError
from ppcls.utils.seeding import numpy_legacy_rng


def plan_batches(
    seed: int, shots: int, num_classes: int, batch_size: int, existing: Sequence[int] | None = None
) -> list[np.ndarray]:
    """Targets of every batch of a job; all classes end with exactly ``shots`` images.

    Batches are drawn from the unfinished classes without repetition; when fewer than ``batch_size`` classes are
    unfinished, from the images that are still missing (so a class may repeat, but never beyond its count). Only
    the last batch can be smaller. The plan depends on the arguments alone, not on progress: batch k is the same
    whichever process dreams it, and whenever.

    Args:
        seed: of the draw.
        shots: images per class.
        num_classes: C.
        batch_size: images per batch.
        existing: images that each class has already [C]; None for none. More than ``shots`` counts as ``shots``.

    Returns:
        list of int64 arrays, class indices.

    Raises:
        UserError: a number below 1, or ``existing`` of another length.
    """
    for name, value in (("shots", shots), ("num_classes", num_classes), ("batch_size", batch_size)):
        if value < 1:
            raise UserError(f"{name} {value} must be at least 1")
    remaining = np.full(num_classes, shots, dtype=np.int64)
    if existing is not None:
        if len(existing) != num_classes:
            raise UserError(f"counts of {len(existing)} classes were given for a teacher with {num_classes}")
        remaining = np.maximum(remaining - np.asarray(existing, dtype=np.int64), 0)
    rng = numpy_legacy_rng(seed, "dream-schedule")
    batches = []
    while remaining.any():
        unfinished = np.flatnonzero(remaining)
        if len(unfinished) >= batch_size:
            targets = rng.permutation(unfinished)[:batch_size]
        else:
            targets = rng.permutation(np.repeat(unfinished, remaining[unfinished]))[:batch_size]
        np.subtract.at(remaining, targets, 1)
        batches.append(targets.astype(np.int64))
    return batches
