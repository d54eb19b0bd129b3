"""Loss weights that are trained.

Kendall et al., "Multi-Task Learning Using Uncertainty to Weigh Losses for Scene Geometry and Semantics", CVPR 2018:
with s = ln(variance), a classification loss counts e^{-s}·L + s/2 and a regression-like loss e^{-s}·L/2 + s/2
(equations 5 to 10). The seed form has one s, for the identity loss alone, which settles at e^{-s} = 1/(2L).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import paddle
from paddle import nn

from ppcls.loss.precision import full_precision

Kind = Literal["classification", "regression"]
LIMIT = 3.0


@full_precision
def uncertainty_weighted(
    loss: paddle.Tensor, s: paddle.Tensor, scale: float = 1.0, penalty: float = 0.5
) -> paddle.Tensor:
    """scale·e^{-s}·loss + penalty·s.

    Args:
        loss: scalar.
        s: scalar, trained; the seed starts it at 0 (1.64 for its switched-off triplet version).
        scale: 1 for a classification loss, 1/2 for others.
        penalty: 1/2; the seed's triplet version has 1.
    """
    return scale * paddle.exp(-s) * loss + penalty * s


class LearnedLossWeights(nn.Layer):
    """One s per loss, named ``s_<loss>``, starting at 0 (weight 1, or 1/2 for a regression).

    The parameters carry no weight decay, whatever the optimiser's. Call :meth:`clamp` after each optimiser step.

    Args:
        kinds: loss name → "classification" or "regression".
    """

    def __init__(self, kinds: Mapping[str, Kind]):
        super().__init__()
        unknown = sorted(set(kinds.values()) - {"classification", "regression"})
        if unknown or not kinds:
            raise ValueError(f"kinds must be classification or regression, at least one, not {unknown or kinds}")
        self.kinds = dict(kinds)
        for name in kinds:
            attr = paddle.ParamAttr(
                initializer=nn.initializer.Constant(0.0), regularizer=paddle.regularizer.L2Decay(0.0)
            )
            self.add_parameter(f"s_{name}", self.create_parameter([1], attr=attr))

    def forward(self, losses: Mapping[str, paddle.Tensor]) -> paddle.Tensor:
        """The sum of the weighted losses, a scalar. ValueError unless exactly the named losses are given."""
        if set(losses) != set(self.kinds):
            raise ValueError(f"weights for {sorted(self.kinds)}, but losses {sorted(losses)}")
        terms = [
            uncertainty_weighted(losses[name], self._s(name).squeeze(), 1.0 if kind == "classification" else 0.5)
            for name, kind in self.kinds.items()
        ]
        return paddle.add_n(terms)

    def weights(self) -> dict[str, float]:
        """What multiplies each loss now."""
        scale = {name: 1.0 if kind == "classification" else 0.5 for name, kind in self.kinds.items()}
        return {name: scale[name] * float(paddle.exp(-self._s(name))) for name in self.kinds}

    def clamp(self, limit: float = LIMIT) -> None:
        """Put every s back into [-limit, limit]. (Cutting inside the loss would leave s without a gradient there.)"""
        with paddle.no_grad():
            for name in self.kinds:
                s = self._s(name)
                s.set_value(paddle.clip(s, -limit, limit))

    def _s(self, name: str) -> paddle.Tensor:
        return getattr(self, f"s_{name}")
