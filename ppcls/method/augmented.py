"""Augmented distillation: pairwise and cross-wise over several views (Lu et al., CVPR 2022)."""

from __future__ import annotations

from ppcls.method.base import Terms, with_distillation
from ppcls.method.inversion_incremental import InversionIncremental, Memory


class AugmentedDistillation(InversionIncremental):
    """Each view of the dreamed images is distilled from the same view, and from the other ones.

    For view k of P: CE + triplet over [new_k; dreamed_k] + factor·[c·ℓ(E_k,T_k) + (1−c)/(P−1)·Σ_{j≠k} ℓ(E_k,T_j)];
    the step's loss is the mean over views. With one view there is nothing to cross and ℓ(E,T) has weight 1.
    """

    def __init__(self, *arguments, cross_factor: float, **named) -> None:
        super().__init__(*arguments, **named)
        self.cross_factor = cross_factor

    def add_memory(self, terms: Terms, memory: Memory) -> Terms:
        def loss(teacher):
            return self.distil(memory.dreamed, teacher, memory.pids, memory.joint)

        distilled = loss(memory.remembered[memory.number])
        others = [teacher for index, teacher in enumerate(memory.remembered) if index != memory.number]
        if others and self.cross_factor < 1.0:
            crosswise = sum(loss(teacher) for teacher in others) / len(others)
            distilled = self.cross_factor * distilled + (1.0 - self.cross_factor) * crosswise
        return with_distillation(terms, distilled)
