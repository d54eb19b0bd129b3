"""Comparisons with reference numbers that are shared by the parity tests."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

#: dtype → (relative error of a value, error of a gradient over its largest entry)
TOLERANCES = {"float32": (1e-5, 2e-5), "float64": (1e-7, 1e-7)}


def variable(array, dtype: str = "float32") -> paddle.Tensor:
    """A differentiable tensor of ``dtype``."""
    return paddle.to_tensor(np.asarray(array).astype(dtype), stop_gradient=False)


def assert_close(actual, expected, tolerance: float) -> None:
    """Largest error within ``tolerance`` of the largest expected entry."""
    actual = np.asarray(actual.numpy() if isinstance(actual, paddle.Tensor) else actual, np.float64)
    expected = np.asarray(expected, np.float64)
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= tolerance * np.abs(expected).max()


def assert_loss(loss, expected, gradients=(), dtype: str = "float32", slack: float = 1.0) -> None:
    """``loss`` has the expected value, and backward gives each (tensor, expected gradient)."""
    value, gradient = (tolerance * slack for tolerance in TOLERANCES[dtype])
    np.testing.assert_allclose(float(loss), float(expected), rtol=value)
    loss.backward()
    for tensor, wanted in gradients:
        assert_close(tensor.grad, wanted, gradient)


def image(data, name: str) -> paddle.Tensor:
    """A regenerated input: fine noise on coarse colour."""
    rng = np.random.RandomState(int(data[f"{name}_seed"]))
    batch, channels, height, width = (int(size) for size in data[f"{name}_shape"])
    fine = rng.randn(batch, channels, height, width)
    coarse = rng.randn(batch, channels, height // 32, width // 32)
    made = (0.5 * fine + coarse.repeat(32, 2).repeat(32, 3)).astype(np.float32)
    np.testing.assert_allclose(made.ravel()[:6], data[f"{name}_check"], rtol=1e-6)
    return paddle.to_tensor(made)


def assert_sampled(mine, data, key: str, tolerance: float) -> None:
    """Relative L2 error of the stored samples, and the norm of the whole."""
    mine = np.asarray(mine.numpy() if isinstance(mine, paddle.Tensor) else mine, np.float64)
    if f"{key}__step" in data:
        assert mine.shape == tuple(data[f"{key}__shape"])
        assert np.linalg.norm(mine) == pytest.approx(data[f"{key}__stat"][-1], rel=tolerance)
        mine = mine.ravel()[:: int(data[f"{key}__step"])]
    difference = np.linalg.norm(mine.ravel() - data[key].ravel())
    assert difference <= tolerance * np.linalg.norm(data[key]), key
