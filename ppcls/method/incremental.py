"""Learning without old data of any kind: the previous network is asked about the new images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import paddle

from ppcls.method.base import BatchLike, PreviousMethod, Terms, identity_terms, share, view, with_distillation

if TYPE_CHECKING:
    from ppcls.arch.output import ReIDOutput


class Incremental(PreviousMethod):
    """CE + triplet + ``factor`` · ℓ(student, previous), all on new images (with logits: LwF)."""

    def losses(self, batch: Mapping[str, BatchLike]) -> Iterator[Terms]:
        new = batch["new"]
        for number in range(self.views):
            images = view(new, number)
            remembered = self.remember(images)
            out = self.net(images, paddle.to_tensor(new.pids))
            terms = identity_terms(out.logits, out.global_feat, new.pids)
            yield share(self.add_memory(terms, out, remembered, new.pids), self.views)

    def add_memory(self, terms: Terms, student: ReIDOutput, remembered: ReIDOutput, pids: np.ndarray) -> Terms:
        """Add what keeps the network's answers where they were; variants extend this."""
        return with_distillation(terms, self.distil(student, remembered, pids))
