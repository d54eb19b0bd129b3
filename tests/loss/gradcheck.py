"""Analytic against numeric derivatives in float64, along random directions."""

import numpy as np
import paddle


def assert_gradient(function, value, directions=4, step=1e-6, rtol=1e-5, seed=0):
    """``function`` maps a float64 tensor shaped like ``value`` to a scalar tensor."""
    point = paddle.to_tensor(value.astype(np.float64), stop_gradient=False)
    function(point).backward()
    gradient = point.grad.numpy()
    rng = np.random.default_rng(seed)
    for _ in range(directions):
        direction = rng.standard_normal(value.shape)
        direction /= np.linalg.norm(direction)
        moved = [paddle.to_tensor(value + sign * step * direction, stop_gradient=False) for sign in (1, -1)]
        ends = [float(function(tensor)) for tensor in moved]
        numeric = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose((gradient * direction).sum(), numeric, rtol=rtol, atol=1e-7)
    return gradient
