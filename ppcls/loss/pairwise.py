"""Distances and cosines between rows, safe at zero and stable for nearly equal rows."""

from __future__ import annotations

from typing import Literal

import paddle

SQUARED_FLOOR = 1e-12
"""Smallest squared Euclidean distance; below it the distance is the constant 1e-6 and has no gradient."""
COSINE_EPSILON = 1e-12


Metric = Literal["euclidean", "cosine", "unit_squared"]
"""|a - b|, |1 - cos(a, b)|, or the squared distance of the unit vectors, 2 - 2cos(a, b)."""


def euclidean_dist(x: paddle.Tensor, y: paddle.Tensor | None = None) -> paddle.Tensor:
    """Euclidean distances sqrt(max(|x_i|^2 + |y_j|^2 - 2 x_i.y_j, 1e-12)).

    Args:
        x: [N, D] float.
        y: [M, D] float; ``None`` means ``x`` itself, whose diagonal is then exactly zero before the floor
            (the expansion would leave rounding noise of about 1e-3 there in float32).

    Returns:
        [N, M], same dtype, in the unit of the features.
    """
    # A common shift changes no distance and makes the expansion subtract smaller numbers.
    centre = x.mean(axis=0, keepdim=True).detach()
    x = x - centre
    other = x if y is None else y - centre
    squared = (x * x).sum(1, keepdim=True) + (other * other).sum(1) - 2.0 * (x @ other.t())
    if y is None:
        squared = squared * (1.0 - paddle.eye(x.shape[0], dtype=x.dtype))
    return paddle.sqrt(paddle.clip(squared, min=SQUARED_FLOOR))


def row_distance(x: paddle.Tensor, y: paddle.Tensor) -> paddle.Tensor:
    """Euclidean distance of corresponding rows: [N, D], [N, D] to [N], floored at 1e-6."""
    delta = x - y
    return paddle.sqrt(paddle.clip((delta * delta).sum(-1), min=SQUARED_FLOOR))


def l2_normalize(x: paddle.Tensor, floor: float = 1e-12) -> paddle.Tensor:
    """Rows over max(|row|, floor). The gradient at a zero row is finite."""
    return x / paddle.sqrt(paddle.clip((x * x).sum(-1, keepdim=True), min=floor**2))


def _inverse_norm(x: paddle.Tensor) -> paddle.Tensor:
    return paddle.rsqrt((x * x).sum(-1) + COSINE_EPSILON)


def row_cosine(x: paddle.Tensor, y: paddle.Tensor) -> paddle.Tensor:
    """Cosine of corresponding rows, x.y / sqrt((|x|^2 + 1e-12)(|y|^2 + 1e-12)): [N, D], [N, D] to [N]."""
    return (x * y).sum(-1) * _inverse_norm(x) * _inverse_norm(y)


def normalized_row_cosine(x: paddle.Tensor, y: paddle.Tensor) -> paddle.Tensor:
    """Cosine of corresponding rows after dividing each by max(norm, 1e-12): [N, D], [N, D] to [N]."""
    return (l2_normalize(x) * l2_normalize(y)).sum(-1)


def cosine_matrix(x: paddle.Tensor, y: paddle.Tensor) -> paddle.Tensor:
    """Cosines of all row pairs: [N, D], [M, D] to [N, M]."""
    return l2_normalize(x) @ l2_normalize(y).t()


def distance_matrix(x: paddle.Tensor, metric: Metric = "euclidean") -> paddle.Tensor:
    """Distances of all pairs of rows by a :data:`Metric`, at least 1e-12 (1e-6 for Euclid): [N, D] to [N, N]."""
    return euclidean_dist(x) if metric == "euclidean" else _from_cosine(cosine_matrix(x, x), metric)


def row_metric(x: paddle.Tensor, y: paddle.Tensor, metric: Metric = "euclidean") -> paddle.Tensor:
    """The same for corresponding rows: [N, D], [N, D] to [N]."""
    return row_distance(x, y) if metric == "euclidean" else _from_cosine(normalized_row_cosine(x, y), metric)


def _from_cosine(cosine: paddle.Tensor, metric: Metric) -> paddle.Tensor:
    if metric not in ("cosine", "unit_squared"):
        raise ValueError(f"unknown metric {metric!r}; choose euclidean, cosine or unit_squared")
    distance = paddle.clip((1.0 - cosine).abs(), min=SQUARED_FLOOR)
    return distance if metric == "cosine" else 2.0 * distance
