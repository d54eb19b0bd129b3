"""Training on new data alone with a penalty on moving weights that mattered (EWC, MAS)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import paddle

from ppcls.loss.regularization import ewc_penalty, mas_objective, mas_penalty, update_importance
from ppcls.loss.triplet import batch_hard_triplet
from ppcls.method.base import BatchLike, PreviousMethod, Terms, identity_terms, share, view


class _Regularized(PreviousMethod):
    """CE + triplet on new images + ``factor`` · penalty on the backbone's distance from the previous one."""

    kind = "squared"

    def __init__(self, net, previous, factor: float, views: int = 1) -> None:
        super().__init__(net, previous, factor=factor, views=views)
        self.importance: dict[str, paddle.Tensor] = {}
        self._anchors = trainable(previous.backbone, like=net.backbone)

    def prepare(self, batches: Iterator[Mapping[str, BatchLike]]) -> None:
        """Mean over one epoch of new batches of the squared or absolute gradients of the *previous* backbone.

        A copy of it runs in train mode (batch statistics), so that the frozen one is not touched.
        """
        probe = self.net.copy()
        probe.train()
        weights = trainable(probe.backbone)
        importance = None
        for seen, batch in enumerate(batches):
            self.objective(probe.backbone(view(batch["new"]))[1], batch["new"].pids).backward()
            gradients = {name: weight.grad for name, weight in weights.items() if weight.grad is not None}
            importance = update_importance(importance, gradients, seen, self.kind)
            for weight in weights.values():
                weight.clear_gradient(False)
        self.importance = importance or {}

    def objective(self, features: paddle.Tensor, pids: np.ndarray) -> paddle.Tensor:
        """What the importance of a weight is measured by."""
        raise NotImplementedError

    def penalty(self) -> paddle.Tensor:
        """The unweighted penalty of the current backbone."""
        raise NotImplementedError

    def losses(self, batch: Mapping[str, BatchLike]) -> Iterator[Terms]:
        new = batch["new"]
        for number in range(self.views):
            out = self.net(view(new, number), paddle.to_tensor(new.pids))
            terms = identity_terms(out.logits, out.global_feat, new.pids)
            penalty = self.factor * self.penalty()
            yield share({**terms, "loss": terms["loss"] + penalty, "penalty": penalty}, self.views)

    def state_dict(self) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in self.importance.items()}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        self.importance = {name: paddle.to_tensor(value) for name, value in state.items()}


class ElasticWeightConsolidation(_Regularized):
    """EWC (Kirkpatrick et al., PNAS 2017), with the squared gradients of the triplet loss on new images."""

    def objective(self, features: paddle.Tensor, pids: np.ndarray) -> paddle.Tensor:
        return batch_hard_triplet(features, pids)

    def penalty(self) -> paddle.Tensor:
        return ewc_penalty(trainable(self.net.backbone), self._anchors, self.importance)


class MemoryAwareSynapses(_Regularized):
    """MAS (Aljundi et al., ECCV 2018): absolute gradients of the mean length of the pooled feature."""

    kind = "absolute"

    def objective(self, features: paddle.Tensor, pids: np.ndarray) -> paddle.Tensor:
        return mas_objective(features)

    def penalty(self) -> paddle.Tensor:
        return mas_penalty(trainable(self.net.backbone), self._anchors, self.importance)


def trainable(layer: paddle.nn.Layer, like: paddle.nn.Layer | None = None) -> dict[str, paddle.Tensor]:
    """Parameters by name that train (in ``like``, whose names are the same, if ``layer`` is frozen)."""
    names = {name for name, weight in (like or layer).named_parameters() if not weight.stop_gradient}
    return {name: weight for name, weight in layer.named_parameters() if name in names}
