"""Self-distillation: shallow stages of a network learn from deep ones of the same network.

Zhang et al., "Be Your Own Teacher: Improve the Performance of Convolutional Neural Networks via Self Distillation",
ICCV 2019 (BYOT), equations 1 to 3. Three modes share the vectors of the branches behind stages 4, 3, 2 and 1:

``fixed``: the paper. Stage 4 teaches all others, and each student branch has a classifier of its own that learns from
the labels and from the deepest classifier's softened scores.

``seed``: what the re-ID seed describes. Branch 3 teaches branches 2 and 1 by features alone.

``reference``: what the seed's code does. Branch 3 teaches branch 1 alone; nothing trains the parts of branch 3, so the
teacher is stage 3 through a random projection.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import paddle

from ppcls.loss.classification import label_smoothing_cross_entropy
from ppcls.loss.labels import Labels
from ppcls.loss.pairwise import l2_normalize
from ppcls.loss.precision import full_precision, widen
from ppcls.loss.softmax import log_softmax
from ppcls.utils.errors import UserError

Mode = Literal["fixed", "seed", "reference"]
Reduction = Literal["batch_fro", "mean"]
#: mode → (teacher, students)
ROLES: dict[str, tuple[int, tuple[int, ...]]] = {"fixed": (4, (3, 2, 1)), "seed": (3, (2, 1)), "reference": (3, (1,))}


@full_precision
def feature_hint(student: paddle.Tensor, teacher: paddle.Tensor, reduction: Reduction = "batch_fro") -> paddle.Tensor:
    """Distance of branch vectors [B, V]; the teacher is a constant.

    ``"batch_fro"``: the Frobenius norm of the whole difference, as in BYOT's code; it grows with the square root of
    the batch size. ``"mean"``: the mean over images of the squared distance of the unit vectors, in [0, 4].
    """
    target = teacher.detach()
    if reduction == "batch_fro":
        # floored, so that equal branches have no infinite gradient
        return paddle.sqrt(paddle.clip((student - target).square().sum(), min=1e-24))
    if reduction == "mean":
        return (l2_normalize(student) - l2_normalize(target)).square().sum(1).mean()
    raise ValueError(f"unknown reduction {reduction!r}; choose batch_fro or mean")


@full_precision
def masked_hint(student: paddle.Tensor, teacher: paddle.Tensor) -> paddle.Tensor:
    """Sum of (f - f_t)^2 where either is positive, for features behind a ReLU; the teacher is a constant."""
    target = teacher.detach()
    active = ((student.detach() > 0) | (target > 0)).astype(student.dtype)
    return ((student - target).square() * active).sum()


@full_precision
def softened_cross_entropy(
    student_logits: paddle.Tensor, teacher_logits: paddle.Tensor, temperature: float = 3.0
) -> paddle.Tensor:
    """-T^2 · mean_i sum_c softmax(z_t/T) ln softmax(z_s/T); the teacher is a constant. Logits [B, C]."""
    target = log_softmax(teacher_logits.detach() / temperature).exp()
    return -(temperature**2) * (target * log_softmax(student_logits / temperature)).sum(1).mean()


@dataclass(frozen=True)
class SelfDistillation:
    """The terms that self-distillation adds to a network's identity loss.

    Attributes:
        mode: "fixed", "seed" or "reference".
        coefficient: of the feature term, lambda; 0.03 in BYOT and the seed.
        alpha: share of the softened scores against the labels in a branch classifier's loss; BYOT 0.3.
        temperature: of the softened scores; BYOT 3.
        smoothing: of the labels of branch classifiers.
        reduction: see :func:`feature_hint`.
        teacher, students: other roles than the mode's.
    """

    mode: Mode = "fixed"
    coefficient: float = 0.03
    alpha: float = 0.3
    temperature: float = 3.0
    smoothing: float = 0.0
    reduction: Reduction = "batch_fro"
    teacher: int | None = None
    students: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.mode not in ROLES:
            raise UserError(f"unknown self-distillation mode {self.mode!r}; choose one of {', '.join(ROLES)}")
        teacher, students = ROLES[self.mode]
        object.__setattr__(self, "teacher", teacher if self.teacher is None else self.teacher)
        object.__setattr__(self, "students", students if self.students is None else tuple(self.students))
        earlier = set(range(1, self.teacher))
        if self.teacher not in (4, 3, 2) or not self.students or not set(self.students) <= earlier:
            raise UserError(
                f"self-distillation: teacher {self.teacher} and students {self.students} do not fit; a teacher is "
                "stage 4, 3 or 2 and its students are earlier stages"
            )
        if not 0 <= self.alpha <= 1 or self.temperature <= 0 or self.coefficient < 0:
            raise UserError("self-distillation: alpha must be in 0..1, temperature > 0 and the coefficient >= 0")

    @property
    def supervised(self) -> bool:
        """Whether the student branches need classifiers."""
        return self.mode == "fixed"

    def feature_term(self, vectors: Mapping[int, paddle.Tensor]) -> paddle.Tensor:
        """coefficient · sum over students of the distance to the teacher's vector, all [B, V]."""
        teacher = vectors[self.teacher]
        return self.coefficient * paddle.add_n(
            [feature_hint(vectors[student], teacher, self.reduction) for student in self.students]
        )

    def branch_terms(
        self, branch_logits: Mapping[int, paddle.Tensor], logits: paddle.Tensor, labels: Labels
    ) -> tuple[paddle.Tensor, paddle.Tensor]:
        """Sums over students of (1 - alpha)·CE(z_b, y) and of alpha·softened CE(z_b, z).

        Args:
            branch_logits: student → [B, C].
            logits: [B, C] of the deepest classifier, a constant here.
            labels: [B].
        """
        chosen = [widen(branch_logits[student]) for student in self.students]
        hard = [label_smoothing_cross_entropy(z, labels, self.smoothing) for z in chosen]
        soft = [softened_cross_entropy(z, logits, self.temperature) for z in chosen]
        return (1.0 - self.alpha) * paddle.add_n(hard), self.alpha * paddle.add_n(soft)
