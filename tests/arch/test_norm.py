"""Batch norm with unbiased running variance, IBN-a, per-domain banks."""

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.arch.gears.norm import IBN, BatchNorm1D, BatchNorm2D, DomainBatchNorm, DomainSelector
from ppcls.utils.errors import UserError


def draw(rng, *shape):
    return (rng.randn(*shape) * 2 + 1).astype("float32")


@settings(max_examples=25, deadline=None)
@given(batch=st.integers(2, 9), size=st.integers(0, 4), steps=st.integers(1, 3), seed=st.integers(0, 999))
def test_running_statistics_follow_the_unbiased_variance(batch, size, steps, seed):
    """After each step: 0.9·old + 0.1·var(ddof=1), for [B, C] and [B, C, H, W]."""
    rng = np.random.RandomState(seed)
    layer = BatchNorm2D(3) if size else BatchNorm1D(3)
    mean, variance = np.zeros(3), np.ones(3)
    for _ in range(steps):
        x = draw(rng, batch, 3, size, size) if size else draw(rng, batch, 3)
        out = layer(paddle.to_tensor(x))
        axes = (0, 2, 3) if size else (0,)
        mean = 0.9 * mean + 0.1 * x.mean(axis=axes, dtype="float64")
        variance = 0.9 * variance + 0.1 * x.astype("float64").var(axis=axes, ddof=1)
        normalised = out.numpy().astype("float64")
        np.testing.assert_allclose(normalised.mean(axis=axes), 0, atol=1e-4)
    np.testing.assert_allclose(layer._mean.numpy(), mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer._variance.numpy(), variance, rtol=1e-4)


def test_gradients_are_those_of_paddles_layer():
    rng = np.random.RandomState(0)
    x, weight = draw(rng, 4, 3, 2, 2), paddle.to_tensor(draw(rng, 4, 3, 2, 2))
    grads = []
    for layer in (BatchNorm2D(3), paddle.nn.BatchNorm2D(3)):
        tensor = paddle.to_tensor(x, stop_gradient=False)
        first = layer(tensor)
        second = layer(tensor * 2)  # a second forward must not disturb the first one's backward
        ((first + second) * weight).sum().backward()
        grads.append((tensor.grad.numpy(), layer.weight.grad.numpy(), layer.bias.grad.numpy()))
    for mine, paddles in zip(*grads, strict=True):
        np.testing.assert_allclose(mine, paddles, rtol=1e-6, atol=1e-6)


def test_evaluation_leaves_the_statistics_alone():
    layer = BatchNorm1D(4)
    layer.eval()
    layer(paddle.ones([3, 4]))
    np.testing.assert_array_equal(layer._variance.numpy(), np.ones(4, "float32"))
    np.testing.assert_array_equal(layer._mean.numpy(), np.zeros(4, "float32"))


def test_whole_graph_training_is_refused_but_not_with_paddles_statistics():
    """A traced program cannot assign to a running statistic; the default tracing mode runs the layer as it is."""
    x = paddle.to_tensor(draw(np.random.RandomState(0), 4, 2))
    with pytest.raises(UserError, match="bn_unbiased=False"):
        paddle.jit.to_static(BatchNorm1D(2), full_graph=True)(x)
    paddle.jit.to_static(BatchNorm1D(2, unbiased=False), full_graph=True)(x)
    layer = BatchNorm1D(2)
    paddle.jit.to_static(layer)(x)
    np.testing.assert_allclose(layer._variance.numpy(), 0.9 + 0.1 * x.numpy().var(axis=0, ddof=1), rtol=1e-5)


def test_ibn_splits_the_channels():
    rng = np.random.RandomState(0)
    layer, x = IBN(5), draw(rng, 3, 5, 4, 2)
    out = layer(paddle.to_tensor(x)).numpy()
    assert layer.half == 2
    first = (x[:, :2] - x[:, :2].mean((2, 3), keepdims=True)) / np.sqrt(x[:, :2].var((2, 3), keepdims=True) + 1e-5)
    rest = (x[:, 2:] - x[:, 2:].mean((0, 2, 3), keepdims=True)) / np.sqrt(x[:, 2:].var((0, 2, 3), keepdims=True) + 1e-5)
    np.testing.assert_allclose(out, np.concatenate([first, rest], axis=1), rtol=1e-3, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(data=st.data(), num=st.integers(1, 4), batch=st.integers(2, 8))
def test_a_bank_treats_each_domain_alone_and_keeps_the_order(data, num, batch):
    domains = data.draw(st.lists(st.integers(0, num - 1), min_size=batch, max_size=batch))
    selector = DomainSelector(num)
    bank, x = DomainBatchNorm(3, selector), draw(np.random.RandomState(batch), batch, 3, 2, 2)
    selector.select(domains, batch)
    out = bank(paddle.to_tensor(x)).numpy()
    for d in range(num):
        rows = [i for i, owner in enumerate(domains) if owner == d]
        single = BatchNorm2D(3)
        if rows:
            np.testing.assert_allclose(out[rows], single(paddle.to_tensor(x[rows])).numpy(), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(bank.bns[d]._variance.numpy(), single._variance.numpy(), rtol=1e-5)


@pytest.mark.parametrize("domain", [3, -1, [0, 3], [0]])
def test_a_wrong_domain_is_an_error(domain):
    with pytest.raises(UserError, match="domain"):
        DomainSelector(3).select(domain, 2)


@pytest.mark.parametrize("frozen", ["weight", "bias"])
@pytest.mark.parametrize("unbiased", [True, False])
def test_a_frozen_half_leaves_the_other_its_gradient(frozen, unbiased):
    """Paddle's own layer would give neither one."""
    x, factor = paddle.randn([6, 4]), paddle.randn([6, 4])
    free, half = BatchNorm1D(4, unbiased), BatchNorm1D(4, unbiased)
    getattr(half, frozen).stop_gradient = True
    for norm in (free, half):
        (norm(x) * factor).sum().backward()
    trained = "bias" if frozen == "weight" else "weight"
    np.testing.assert_allclose(getattr(half, trained).grad.numpy(), getattr(free, trained).grad.numpy(), rtol=1e-6)
    assert getattr(half, frozen).grad is None and getattr(half, frozen).stop_gradient
