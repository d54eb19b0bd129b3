"""Paddle optimisers over the network's parameter groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import paddle

from ppcls.utils.errors import UserError

#: Learning-rate multiples of the published recipe: what starts from scratch learns ten times faster.
MULTIPLES = {"base": 1.0, "neck": 10.0, "classifier": 10.0}


def build_optimizer(
    groups: Sequence[tuple[str, Sequence[paddle.Tensor]]],
    name: str = "SGD",
    learning_rate: float = 0.01,
    weight_decay: float = 5e-4,
    momentum: float = 0.9,
    multiples: Mapping[str, float] = MULTIPLES,
) -> paddle.optimizer.Optimizer:
    """Nesterov SGD with L2 on every parameter, or Adam without decay (the reference's two choices).

    Args:
        groups: ``(group name, parameters)``; the name selects the multiple of ``learning_rate``. Frozen parameters
            (``stop_gradient``) are left out.
        name: ``"SGD"`` or ``"Adam"``.

    Raises:
        UserError: an unknown optimiser.
    """
    parameters = [
        {"params": trainable, "learning_rate": multiples.get(group, 1.0)}
        for group, members in groups
        if (trainable := [parameter for parameter in members if not parameter.stop_gradient])
    ]
    if name == "SGD":
        return paddle.optimizer.Momentum(
            learning_rate=learning_rate,
            momentum=momentum,
            parameters=parameters,
            use_nesterov=True,
            weight_decay=weight_decay,
        )
    if name == "Adam":
        return paddle.optimizer.Adam(learning_rate=learning_rate, parameters=parameters)
    raise UserError(f"unknown optimizer '{name}'; choose SGD or Adam")
