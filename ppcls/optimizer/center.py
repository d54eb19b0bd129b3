"""The optimiser of a center loss's table.

Luo et al., "Bag of Tricks and a Strong Baseline for Deep Person Re-Identification", CVPRW 2019, section 3.6, and its
code: the network sees the loss times a small weight, the centres see it in full.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import paddle

from ppcls.utils.errors import UserError


class CenterOptimizer:
    """SGD over centres, whose gradients are first divided by the weight that the loss had in the total.

    The strong baseline's values are the defaults. (Another published variant: Nesterov momentum 0.9, decay 1e-4,
    times 0.995 per epoch; decay then acts on the rows of absent classes too.)

    Step the network first, then this, then clear both. Under loss scaling, unscale the gradients before. The centres
    must not be parameters of another optimiser.

    Args:
        centers: the tables, [C, D] each.
        weight: that of the center loss in the total, > 0.
        learning_rate, momentum, weight_decay: momentum is Nesterov's.

    Raises:
        UserError: a weight that is not positive.
    """

    def __init__(
        self,
        centers: Sequence[paddle.Tensor],
        weight: float = 5e-4,
        learning_rate: float = 0.5,
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ):
        if not weight > 0:
            raise UserError(
                f"center loss with weight {weight}: its centres learn from the loss over this weight; give a positive "
                "one, or leave the center loss out"
            )
        self.weight = weight
        self.centers = list(centers)
        self._optimizer = paddle.optimizer.Momentum(
            learning_rate=learning_rate,
            momentum=momentum,
            parameters=self.centers,
            use_nesterov=momentum > 0,
            weight_decay=weight_decay or None,
        )

    def step(self) -> None:
        """Rescale the gradients and move the centres. Centres without gradient stay."""
        with paddle.no_grad():
            for center in self.centers:
                if center.grad is not None:
                    center.grad.scale_(1.0 / self.weight)
        self._optimizer.step()

    def clear_grad(self) -> None:
        """Forget the gradients."""
        self._optimizer.clear_grad()

    def set_lr(self, learning_rate: float) -> None:
        """The rate of the next steps."""
        self._optimizer.set_lr(learning_rate)

    def state_dict(self) -> dict[str, np.ndarray]:
        """Momenta by the tables' positions, for exact resume (the tables themselves are the caller's)."""
        state = {}
        for key, value in self._optimizer.state_dict().items():
            for position, center in enumerate(self.centers):
                if key.startswith(f"{center.name}_"):
                    state[f"{position}{key[len(center.name) :]}"] = value.numpy()
        return state

    def set_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Take back a :meth:`state_dict` into a fresh optimiser."""
        renamed = {}
        for key, value in state.items():
            position, _, suffix = key.partition("_")
            renamed[f"{self.centers[int(position)].name}_{suffix}"] = paddle.to_tensor(value)
        self._optimizer.set_state_dict(renamed)
