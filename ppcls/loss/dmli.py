"""Dynamically matching local information: the distance of two bodies cut into horizontal stripes, to train with.

Luo et al., "AlignedReID++: Dynamically Matching Local Information for Person Re-Identification", Pattern Recognition
2019, equations 2 and 3: stripe distances D_ij = (e^E - 1)/(e^E + 1) = tanh(E_ij/2) of Euclidean E, and the cheapest
path from the top pair to the bottom pair, S_ij = D_ij + min(S_{i-1,j}, S_{i,j-1}). The distance is the sum along it.

All pairs advance together along the anti-diagonals of the cost matrix, whose cells do not depend on each other.
(Whole matrices without gradient, for evaluation, are in ``ppcls.metric.aligned``.)
"""

from __future__ import annotations

import numpy as np
import paddle

from ppcls.loss.precision import full_precision

SQUARED_FLOOR = 1e-12


@full_precision
def dmli(x: paddle.Tensor, y: paddle.Tensor, *, aligned: bool = True) -> paddle.Tensor:
    """Local distance of corresponding bodies: [N, d, H], [N, d, W] to [N], differentiable.

    Args:
        x, y: stripe features, channels before stripes as the network's local branch gives them; unit length per stripe.
        aligned: False sums the stripe distances D_ii of equal heights instead.

    Raises:
        ValueError: other shapes, or different numbers of stripes with ``aligned=False``.
    """
    if x.ndim != 3 or y.ndim != 3 or x.shape[:2] != y.shape[:2]:
        raise ValueError(f"stripe features must be [N, d, H] with equal N and d, not {x.shape} and {y.shape}")
    if not aligned:
        if x.shape != y.shape:
            raise ValueError(f"{x.shape[2]} and {y.shape[2]} stripes have no common heights; use aligned=True")
        return stripe_cost((x - y).square().sum(1)).sum(1)
    # A training batch has few pairs; the differences themselves, unlike |a|² + |b|² − 2ab, lose no digits.
    squared = (x.unsqueeze(3) - y.unsqueeze(2)).square().sum(1)
    return shortest_path(stripe_cost(squared).transpose([1, 2, 0]))


def stripe_cost(squared: paddle.Tensor) -> paddle.Tensor:
    """tanh(E/2) of squared Euclidean distances E^2, floored at 1e-12; any shape. In [0, 1)."""
    return paddle.tanh(0.5 * paddle.sqrt(paddle.clip(squared, min=SQUARED_FLOOR)))


def shortest_path(cost: paddle.Tensor) -> paddle.Tensor:
    """Cost of the cheapest monotone path from cell (0, 0) to (H-1, W-1), steps down or right: [H, W, P] to [P].

    The gradient is 1 on the cells of the path; a tie goes to the left neighbour.
    """
    height, width, pairs = cost.shape
    diagonals = [(max(0, k - width + 1), min(k, height - 1)) for k in range(height + width - 1)]
    cells = [row * width + k - row for k, (low, high) in enumerate(diagonals) for row in range(low, high + 1)]
    ordered = paddle.gather(cost.reshape([height * width, pairs]), paddle.to_tensor(np.array(cells)))
    parts = paddle.split(ordered, [high - low + 1 for low, high in diagonals])
    outside = paddle.full([1, pairs], float("inf"), cost.dtype)
    total, low_before = parts[0], 0
    for (low, high), here in zip(diagonals[1:], parts[1:], strict=True):
        padded = paddle.concat([outside, total, outside])  # its row r is row low_before - 1 + r of the matrix
        first, count = low - low_before, high - low + 1
        above, left = padded[first : first + count], padded[first + 1 : first + 1 + count]
        total, low_before = here + paddle.minimum(above, left), low
    return total.squeeze(0)
