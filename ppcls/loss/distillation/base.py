"""What every distillation object is: a call, its needs, and the helpers they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import paddle

from ppcls.loss.labels import Labels
from ppcls.loss.precision import widen
from ppcls.utils.errors import UserError

OldHead = Callable[[paddle.Tensor], paddle.Tensor]


@dataclass(frozen=True)
class Context:
    """What some losses need besides the two outputs."""

    old_head: OldHead | None = None
    joint: Any = None


class Distillation:
    """A distillation loss bound to its configuration.

    ``needs`` tells the training step what to hand over, a subset of

    * ``"embedding"``, ``"maps"``, ``"logits"``: these attributes of student and teacher outputs;
    * ``"attention"``: the *teacher's* ``logits`` must be differentiable by its ``maps`` (run it with
      ``images.stop_gradient = False`` and without ``no_grad``), and if the student's output was split off a
      larger batch, that batch's output is the keyword ``joint``;
    * ``"old_head"``: the frozen previous classifier, [B, D] to [B, C_old], as keyword ``old_head``;
    * ``"pids"``: ids of the batch.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def __call__(
        self,
        student: Any,
        teacher: Any,
        pids: Labels | None = None,
        *,
        old_head: OldHead | None = None,
        joint: Any = None,
    ) -> paddle.Tensor:
        """The unweighted loss, a scalar; constant with respect to the teacher.

        Args:
            student: output of the trained network (``maps``, ``embedding``, ``logits``).
            teacher: output of the frozen network for the same images.
            pids: [B] ids of the images.
            old_head: the frozen previous classifier, where ``needs`` names it.
            joint: the student's output on the whole batch, of which ``student`` is the last B images;
                ``None`` if ``student`` is the whole batch.

        Raises:
            UserError: the two networks do not fit together, or the batch cannot define the loss.
        """
        if "pids" in self.needs and pids is None:
            raise UserError(f"{type(self).__name__} needs the person ids of the batch")
        if "old_head" in self.needs and old_head is None:
            raise UserError(f"{type(self).__name__} needs the previous classifier; give a previous checkpoint")
        with paddle.amp.auto_cast(enable=False):
            return self._loss(student, teacher, pids, Context(old_head, joint))

    def _loss(self, student: Any, teacher: Any, pids: Labels | None, context: Context) -> paddle.Tensor:
        raise NotImplementedError


def embeddings(student: Any, teacher: Any) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Student embedding and detached teacher embedding, [B, D] each.

    Raises:
        UserError: the shapes differ.
    """
    new, old = widen(student.embedding), widen(teacher.embedding).detach()
    require_same_shape(new, old, "embeddings")
    return new, old


def require_same_shape(new: paddle.Tensor, old: paddle.Tensor, what: str) -> None:
    """UserError unless both tensors have one shape."""
    if list(new.shape) != list(old.shape):
        raise UserError(
            f"student and teacher {what} have shapes {list(new.shape)} and {list(old.shape)}; "
            "both networks need the same depth, embedding size and last stride"
        )


def require_positive(owner: str, **values: Any) -> None:
    """UserError unless each value is a number above zero."""
    for key, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise UserError(f"{owner}: {key} must be a number above 0, not {value!r}")


def factor_pair(owner: str, factors: Any) -> tuple[float, float]:
    """Two numbers as floats, or a UserError."""
    if (
        not isinstance(factors, list | tuple)
        or len(factors) != 2
        or any(isinstance(f, bool) or not isinstance(f, int | float) for f in factors)
    ):
        raise UserError(f"{owner}: factors must be two numbers, not {factors!r}")
    return float(factors[0]), float(factors[1])
