"""New images and dreamed ones together, with distillation on the dreamed (GD and its competitors)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import paddle

from ppcls.method.base import BatchLike, PreviousMethod, Terms, share, view, with_distillation

if TYPE_CHECKING:
    from ppcls.arch.output import ReIDOutput


@dataclass
class Memory:
    """What a distillation term may look at in one view of one batch.

    ``new`` and ``dreamed`` are the halves of the student's ``joint`` output; ``remembered[k]`` is the previous
    network's on view k of the dreamed images, whose old classes are ``pids``; ``new_images`` are the new images.
    """

    number: int
    joint: ReIDOutput
    new: ReIDOutput
    dreamed: ReIDOutput
    remembered: list[ReIDOutput]
    pids: np.ndarray
    new_images: paddle.Tensor


class InversionIncremental(PreviousMethod):
    """Geometric distillation (Lu et al., CVPR 2022), and any other distillation, on dreamed images.

    One joint forward of [new; dreamed]; loss = CE + triplet over both + factor · ℓ(student, previous) on the dreamed.
    With several views the step's loss is the mean over views.
    """

    streams = ("new", "dreamed")

    def losses(self, batch: Mapping[str, BatchLike]) -> Iterator[Terms]:
        pids = batch["dreamed"].pids
        remembered = [self.remember(view(batch["dreamed"], number)) for number in range(self.views)]
        for number in range(self.views):
            terms, joint, new, dreamed = self.joint_step(batch, number)
            memory = Memory(number, joint, new, dreamed, remembered, pids, view(batch["new"], number))
            yield share(self.add_memory(terms, memory), self.views)

    def add_memory(self, terms: Terms, memory: Memory) -> Terms:
        """Add what keeps the dreamed images where they were; variants override this."""
        teacher = memory.remembered[memory.number]
        return with_distillation(terms, self.distil(memory.dreamed, teacher, memory.pids, memory.joint))
