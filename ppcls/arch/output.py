"""What a re-identification network returns."""

from __future__ import annotations

from dataclasses import dataclass

import paddle


@dataclass
class ReIDOutput:
    """The result of one forward pass; the same fields in training and evaluation, nothing is normalised.

    Attributes:
        maps: stage outputs [B, C_i, H_i, W_i], after the last ReLU of the stage.
        global_feat: [B, D] pooled last map, before the neck (metric losses).
        embedding: [B, D] after the neck (classifier, distillation, retrieval).
        logits: [B, C], or None in a network without classes.
    """

    maps: list[paddle.Tensor]
    global_feat: paddle.Tensor
    embedding: paddle.Tensor
    logits: paddle.Tensor | None

    def split(self, n: int) -> list[ReIDOutput]:
        """``n`` outputs of equal batch size, in order. ValueError if the batch is not a multiple of ``n``."""
        batch = self.embedding.shape[0]
        if n < 1 or batch % n:
            raise ValueError(f"a batch of {batch} cannot be split into {n} equal parts")

        def parts(tensor):
            return [None] * n if tensor is None else paddle.split(tensor, n)

        maps = [parts(m) for m in self.maps]
        rest = zip(parts(self.global_feat), parts(self.embedding), parts(self.logits), strict=True)
        return [ReIDOutput([m[i] for m in maps], *fields) for i, fields in enumerate(rest)]

    def detach(self) -> ReIDOutput:
        """The same values without gradient; this output is left as it is."""
        return ReIDOutput(
            [m.detach() for m in self.maps],
            self.global_feat.detach(),
            self.embedding.detach(),
            None if self.logits is None else self.logits.detach(),
        )
