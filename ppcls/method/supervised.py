"""Plain training: cross-entropy and triplet (task 1, fine-tuning, joint training)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import paddle

from ppcls.method.base import BatchLike, Method, Terms, identity_terms, share, view


class Supervised(Method):
    """Cross-entropy on the logits and soft-margin batch-hard triplet on the pooled feature, weights 1:1.

    With several views the step's loss is the mean of the views' losses.
    """

    def losses(self, batch: Mapping[str, BatchLike]) -> Iterator[Terms]:
        new = batch["new"]
        for number in range(self.views):
            out = self.net(view(new, number), paddle.to_tensor(new.pids))
            yield share(identity_terms(out.logits, out.global_feat, new.pids), self.views)
