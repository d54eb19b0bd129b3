"""Maximum mean discrepancy."""

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.loss import mmd


def _by_hand(x, y, bandwidth=None):
    both = np.concatenate([x, y])
    distance = np.sqrt(np.maximum(((both[:, None] - both[None]) ** 2).sum(2), 1e-12))
    n, total = len(x), len(both)
    if bandwidth is None:
        bandwidth = distance.sum() / (total**2 - total) / 4
    kernel = sum(np.exp(-distance / (bandwidth * 2**k)) for k in range(5))
    value = kernel[:n, :n].mean() + kernel[n:, n:].mean() - kernel[:n, n:].mean() - kernel[n:, :n].mean()
    return value, bandwidth


@settings(max_examples=20, deadline=None)
@given(n=st.integers(2, 6), m=st.integers(2, 6), seed=st.integers(0, 10**6))
def test_value_symmetry_and_equal_sets(n, m, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((n, 3)), rng.standard_normal((m, 3)) + 0.5
    left, right = paddle.to_tensor(x), paddle.to_tensor(y)
    assert float(mmd(left, right)) == pytest.approx(_by_hand(x, y)[0], abs=1e-6)
    assert float(mmd(left, right)) == pytest.approx(float(mmd(right, left)), abs=1e-9)
    assert float(mmd(left, left[::1])) == pytest.approx(0, abs=1e-6)


def test_gradient_holds_the_bandwidth_constant():
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((5, 3)), rng.standard_normal((4, 3))
    tensor = paddle.to_tensor(x, stop_gradient=False)
    mmd(tensor, paddle.to_tensor(y)).backward()
    bandwidth = _by_hand(x, y)[1]
    for index in [(0, 0), (2, 1), (4, 2)]:
        up, down = x.copy(), x.copy()
        up[index] += 1e-6
        down[index] -= 1e-6
        numeric = (_by_hand(up, y, bandwidth)[0] - _by_hand(down, y, bandwidth)[0]) / 2e-6
        assert tensor.grad.numpy()[index] == pytest.approx(numeric, rel=1e-5, abs=1e-8)
