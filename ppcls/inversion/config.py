"""Settings of one inversion job."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ppcls.utils.errors import UserError


@dataclass(frozen=True)
class DreamConfig:
    """Everything that decides what a dreamed image looks like, apart from the teacher, the targets and the seed.

    The defaults are those of the published AGD experiments (DeepInversion, Yin et al., CVPR 2020, applied to
    person images).

    Attributes:
        steps: steps of phase 1 (half resolution) and of phase 2 (full resolution).
        lr: peak learning rate of Adam, in units of normalised pixels.
        r_feature: weight of the batch-norm statistics.
        first_bn_multiplier: extra weight of the stem's batch norm inside that term.
        tv_l1: weight of the mean absolute total variation.
        tv_l2: weight of the Frobenius total variation.
        l2: weight of the mean image norm.
        main_loss_multiplier: weight of the cross-entropy.
        adi_scale: weight of the disagreement with a student; needs a student, 0 switches it off.
        adi_reference: True: the disagreement exactly as the published code computes it (student probabilities
            pushed through a second softmax, reversed KL); False: Jensen-Shannon divergence of the two networks.
        height: image height in pixels.
        width: image width in pixels.
        batch_size: images optimised together. The statistics and ``tv_l2`` are of the whole batch, so this
            changes the result, not only the speed.
        warmup: steps of linear warm-up of each phase; None follows :func:`~ppcls.inversion.prior.warmup_steps`.

    Raises:
        UserError: a value that cannot work.
    """

    steps: tuple[int, int] = (2000, 1000)
    lr: float = 0.2
    r_feature: float = 0.01
    first_bn_multiplier: float = 10.0
    tv_l1: float = 0.0
    tv_l2: float = 1e-4
    l2: float = 1e-5
    main_loss_multiplier: float = 1.0
    adi_scale: float = 0.0
    adi_reference: bool = False
    height: int = 256
    width: int = 128
    batch_size: int = 64
    warmup: int | None = None

    def __post_init__(self):
        steps = tuple(int(n) for n in self.steps)
        if len(steps) != 2 or steps[0] < 0 or steps[1] < 1:
            raise UserError(f"steps {self.steps} are impossible; give two numbers, the first >= 0, the second >= 1")
        object.__setattr__(self, "steps", steps)
        if not self.lr > 0:
            raise UserError(f"lr {self.lr} must be greater than 0")
        for name in ("height", "width", "batch_size"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} {getattr(self, name)} must be at least 1")
        if self.warmup is not None and self.warmup < 0:
            raise UserError(f"warmup {self.warmup} must not be negative")

    @property
    def total_steps(self) -> int:
        """Steps of both phases."""
        return sum(self.steps)

    def as_dict(self) -> dict:
        """Plain numbers and lists, as they are written to ``dream.json``."""
        return {**dataclasses.asdict(self), "steps": list(self.steps)}
