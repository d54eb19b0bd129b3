"""What a method is: networks, the data streams it reads, and how one batch becomes a loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
import paddle

from ppcls.loss.classification import cross_entropy
from ppcls.loss.triplet import batch_hard_triplet

if TYPE_CHECKING:
    from ppcls.arch.output import ReIDOutput
    from ppcls.arch.reid_net import ReIDNet
    from ppcls.loss.distillation import Distillation

#: One loss with its parts: ``"loss"`` is differentiated, the rest is logged.
Terms = dict[str, paddle.Tensor]


class BatchLike(Protocol):
    """What a method reads of a batch: views [B,3,H,W] float32, class labels [B]."""

    images: list[np.ndarray]
    pids: np.ndarray


class Method:
    """One training algorithm. It never loops over data, logs, saves or reads a file.

    Attributes:
        net: the network that is trained.
        streams: data streams read, of ``"new"`` (the current task's images) and ``"dreamed"`` (those of the past).
        views: independently augmented views of each image that a batch must hold.
    """

    streams: ClassVar[tuple[str, ...]] = ("new",)

    def __init__(self, net: ReIDNet, views: int = 1) -> None:
        self.net = net
        self.views = views

    def prepare(self, batches: Iterator[Mapping[str, BatchLike]]) -> None:
        """Look at the data once before training (importances, prototypes). Most methods need nothing."""

    def losses(self, batch: Mapping[str, BatchLike]) -> Iterator[Terms]:
        """The losses of one batch, one at a time: each is differentiated before the next is computed.

        Gradients add up; the optimiser steps once, after the last. So a method over several views holds the
        activations of one view at a time.
        """
        raise NotImplementedError

    def train(self) -> None:
        """Put the networks into the modes of a training step."""
        self.net.train()

    def parameter_groups(self) -> list[tuple[str, list[paddle.Tensor]]]:
        """``(group, parameters)`` of all that is trained."""
        return self.net.param_groups()

    def buffers(self) -> list[paddle.Tensor]:
        """Tensors that each step changes and that all processes of a run must agree on."""
        return []

    def state_dict(self) -> dict[str, np.ndarray]:
        """What :meth:`prepare` or the steps have gathered, for exact resume."""
        return {}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Take back a :meth:`state_dict`; :meth:`prepare` is not called then."""


class PreviousMethod(Method):
    """A method with a frozen previous network beside the one that is trained.

    ``net``'s classifier holds the new classes first, then those of ``previous`` in its own order. ``distillation``,
    weighted by ``factor``, compares the two; without one the previous network only gives the number of old classes.
    """

    def __init__(
        self,
        net: ReIDNet,
        previous: ReIDNet,
        distillation: Distillation | None = None,
        factor: float = 1.0,
        views: int = 1,
    ) -> None:
        super().__init__(net, views)
        self.previous = previous
        self.num_new = net.num_classes - previous.num_classes
        self.distillation = distillation
        self.factor = factor

    def remember(self, images: paddle.Tensor) -> ReIDOutput:
        """The frozen network's outputs, without gradient (but for a distillation of attention, which needs it)."""
        if self.distillation is not None and "attention" in self.distillation.needs:
            return attended(self.previous, images)
        with paddle.no_grad():
            return self.previous(images).detach()

    def distil(
        self, student: ReIDOutput, teacher: ReIDOutput, pids: np.ndarray, joint: ReIDOutput | None = None
    ) -> paddle.Tensor:
        """The weighted distillation; ``joint`` is the output that ``student`` was split off."""
        old_head = self.previous.classifier
        return self.factor * self.distillation(student, teacher, pids, old_head=old_head, joint=joint)

    def joint_step(
        self, batch: Mapping[str, BatchLike], number: int = 0
    ) -> tuple[Terms, ReIDOutput, ReIDOutput, ReIDOutput]:
        """Supervised terms of view ``number`` of [new; dreamed], its output, and that of either half.

        Both go through the network together and share its batch-norm statistics; the classifier spans all classes and
        the triplet mines across both domains.
        """
        new, dreamed = view(batch["new"], number), view(batch["dreamed"], number)
        if new.shape[0] != dreamed.shape[0]:
            raise ValueError(f"{new.shape[0]} new and {dreamed.shape[0]} dreamed images; as many of each are needed")
        labels = self.joint_labels(batch)
        together = self.net(paddle.concat([new, dreamed]), paddle.to_tensor(labels))
        terms = identity_terms(together.logits, together.global_feat, labels)
        return terms, together, *together.split(2)

    def joint_labels(self, batch: Mapping[str, BatchLike]) -> np.ndarray:
        """Labels of [new; dreamed] in the grown classifier: dreamed classes come after the new ones."""
        return np.concatenate([batch["new"].pids, batch["dreamed"].pids + self.num_new])


def view(batch: BatchLike, number: int = 0) -> paddle.Tensor:
    """View ``number`` of a batch as a tensor [B,3,H,W] float32."""
    return paddle.to_tensor(batch.images[number])


def attended(net: ReIDNet, images: paddle.Tensor) -> ReIDOutput:
    """Outputs of a frozen network whose logits can be differentiated by its maps."""
    images = images.detach()
    images.stop_gradient = False
    return net(images)


def identity_terms(logits: paddle.Tensor, features: paddle.Tensor, labels: np.ndarray) -> Terms:
    """The supervised pair of every method here: cross-entropy and soft-margin batch-hard triplet, one to one."""
    pid, triplet = cross_entropy(logits, labels), batch_hard_triplet(features, labels)
    return {"loss": pid + triplet, "pid_loss": pid, "triplet_loss": triplet}


def with_distillation(terms: Terms, distilled: paddle.Tensor) -> Terms:
    """Add an already weighted distillation term."""
    return {**terms, "loss": terms["loss"] + distilled, "distillation_loss": distilled}


def share(terms: Terms, parts: int) -> Terms:
    """One of ``parts`` equal contributions to a step: the loss is divided, what is logged is not."""
    return terms if parts == 1 else {**terms, "loss": terms["loss"] / parts}
