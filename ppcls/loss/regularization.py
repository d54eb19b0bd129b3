"""Penalties on moving weights that mattered for earlier data.

EWC: Kirkpatrick et al., PNAS 2017, equation 3. MAS: Aljundi et al., ECCV 2018, equations 3 and 4.
All take and return mappings from parameter name to tensor; which parameters take part is the caller's choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import paddle

Tensors = Mapping[str, paddle.Tensor]


def ewc_penalty(params: Tensors, anchors: Tensors, fisher: Tensors) -> paddle.Tensor:
    """Half the Fisher-weighted squared distance from the old weights: 1/2 sum F (theta - theta_old)^2.

    Args:
        params: current weights, at least the names of ``fisher``.
        anchors: weights after the earlier task.
        fisher: diagonal Fisher information, the names that take part.

    Returns:
        Scalar, differentiable in ``params``.

    Raises:
        ValueError: a name is missing, a shape differs, or ``fisher`` is empty.
    """
    return 0.5 * _weighted_square(params, anchors, fisher)


def mas_penalty(params: Tensors, anchors: Tensors, importance: Tensors) -> paddle.Tensor:
    """Importance-weighted squared distance from the old weights: sum Omega (theta - theta_old)^2.

    Arguments and errors as :func:`ewc_penalty`.
    """
    return _weighted_square(params, anchors, importance)


def mas_objective(features: paddle.Tensor) -> paddle.Tensor:
    """Mean Euclidean length of features [B, D]; absolute gradients of it are the importance in MAS."""
    return paddle.sqrt(paddle.clip((features * features).sum(1), min=1e-24)).mean()


def update_importance(
    importance: Tensors | None, gradients: Tensors, batches_seen: int, kind: Literal["squared", "absolute"]
) -> dict[str, paddle.Tensor]:
    """Running mean over batches of squared (Fisher information) or absolute (MAS) gradients.

    Args:
        importance: the mean over ``batches_seen`` batches; ``None`` if there were none.
        gradients: of the next batch.
        batches_seen: how many batches ``importance`` stands for.

    Returns:
        A new mapping, the mean over ``batches_seen + 1`` batches, without gradient.
    """
    if kind not in ("squared", "absolute"):
        raise ValueError(f"kind must be 'squared' or 'absolute', not {kind!r}")
    updated = {}
    for name, gradient in gradients.items():
        gradient = gradient.detach()
        value = gradient.square() if kind == "squared" else gradient.abs()
        old = None if importance is None else importance[name]
        updated[name] = value if old is None else old + (value - old) / (batches_seen + 1)
    return updated


def _weighted_square(params: Tensors, anchors: Tensors, weights: Tensors) -> paddle.Tensor:
    if not weights:
        raise ValueError("no parameter has an importance; estimate it on the earlier data first")
    terms = []
    for name, weight in weights.items():
        if name not in params or name not in anchors:
            raise ValueError(f"parameter '{name}' has an importance but no current or no old value")
        if not params[name].shape == anchors[name].shape == weight.shape:
            raise ValueError(
                f"parameter '{name}': shapes {params[name].shape}, {anchors[name].shape} and {weight.shape} differ"
            )
        terms.append((weight.detach() * (params[name] - anchors[name].detach()).square()).sum())
    return paddle.add_n(terms)
