"""A memory of old class centres beside a metric distillation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import paddle

from ppcls.loss.memory_bank import class_centres, memory_loss, update_bank
from ppcls.method.base import BatchLike, Terms, view
from ppcls.method.inversion_incremental import InversionIncremental, Memory


class MetricMemory(InversionIncremental):
    """As GD; dreamed images are also classified by their cosines to a bank of old class centres.

    The bank starts as the previous network's centres of the dreamed classes and follows the student's embeddings with
    ``momentum``.
    """

    def __init__(
        self, *arguments, bank_factor: float, temperature: float = 0.05, momentum: float = 0.2, **named
    ) -> None:
        super().__init__(*arguments, **named)
        self.bank_factor, self.temperature, self.momentum = bank_factor, temperature, momentum
        self.bank: paddle.Tensor | None = None

    def prepare(self, batches: Iterator[Mapping[str, BatchLike]]) -> None:
        """Centres of the previous network's embeddings; classes that an epoch does not show take its classifier row."""
        embeddings, pids = [], []
        for batch in batches:
            embeddings.append(self.remember(view(batch["dreamed"])).embedding.detach())
            pids.append(batch["dreamed"].pids)
        unseen = np.setdiff1d(np.arange(self.previous.num_classes), np.concatenate(pids))
        if len(unseen):
            embeddings.append(self.previous.classifier.W[paddle.to_tensor(unseen)])
            pids.append(unseen)
        self.bank = class_centres(paddle.concat(embeddings), np.concatenate(pids), self.previous.num_classes)

    def add_memory(self, terms: Terms, memory: Memory) -> Terms:
        terms = super().add_memory(terms, memory)
        embedding = memory.dreamed.embedding
        bank_loss = self.bank_factor * memory_loss(embedding, memory.pids, self.bank, self.temperature)
        self.bank = update_bank(self.bank, embedding.detach(), memory.pids, self.momentum)
        return {**terms, "loss": terms["loss"] + bank_loss, "memory_loss": bank_loss}

    def buffers(self) -> list[paddle.Tensor]:
        return [] if self.bank is None else [self.bank]

    def state_dict(self) -> dict[str, np.ndarray]:
        return {} if self.bank is None else {"bank": self.bank.numpy()}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        self.bank = paddle.to_tensor(state["bank"])
