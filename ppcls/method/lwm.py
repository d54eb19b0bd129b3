"""Learning without Memorizing (Dhar et al., CVPR 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import paddle

from ppcls.loss.distillation.attention import LwM
from ppcls.method.base import Terms, attended
from ppcls.method.incremental import Incremental

if TYPE_CHECKING:
    from ppcls.arch.output import ReIDOutput


class LearningWithoutMemorizing(Incremental):
    """Old logits, and the attention of the previous network's favourite old class, held on new images."""

    def __init__(self, *arguments, attention_factor: float, **named) -> None:
        super().__init__(*arguments, **named)
        self.attention = LwM()
        self.attention_factor = attention_factor

    def remember(self, images: paddle.Tensor) -> ReIDOutput:
        return attended(self.previous, images)

    def add_memory(self, terms: Terms, student: ReIDOutput, remembered: ReIDOutput, pids: np.ndarray) -> Terms:
        terms = super().add_memory(terms, student, remembered, pids)
        attention = self.attention_factor * self.attention(student, remembered, pids)
        return {**terms, "loss": terms["loss"] + attention, "attention_loss": attention}
