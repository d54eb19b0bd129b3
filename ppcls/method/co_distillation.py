"""Distillation on dreamed images, and agreement of distributions on new ones."""

from __future__ import annotations

from ppcls.loss.mmd import mmd
from ppcls.method.base import Terms
from ppcls.method.inversion_incremental import InversionIncremental, Memory


class CoDistillation(InversionIncremental):
    """As GD, and the maximum mean discrepancy between student and previous embeddings of the new images.

    MMD pairs no image with its own past: the new ids may move as long as the distribution that the previous network
    would give them is kept. The published trainer of this name never ran; this is what its parts say
    (``docs/differences.md``).
    """

    def __init__(self, *arguments, mmd_factor: float, **named) -> None:
        super().__init__(*arguments, **named)
        self.mmd_factor = mmd_factor

    def add_memory(self, terms: Terms, memory: Memory) -> Terms:
        terms = super().add_memory(terms, memory)
        before = self.remember(memory.new_images).embedding.detach()
        discrepancy = self.mmd_factor * mmd(memory.new.embedding, before)
        return {**terms, "loss": terms["loss"] + discrepancy, "mmd_loss": discrepancy}
