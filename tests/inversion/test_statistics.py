"""Batch-norm statistics terms against automatic differentiation of the plain formula."""

import numpy as np
import paddle
import pytest
from paddle import nn

from ppcls.arch.reid_net import build_net
from ppcls.inversion.statistics import NormProbe, batch_moments, statistics_loss, statistics_terms
from tests.inversion.tiny import TinyNet


def plain_terms(net, x):
    """The formula written down, with paddle.mean and paddle.var."""
    seen = []
    layers = [layer for layer in net.sublayers() if isinstance(layer, (nn.BatchNorm1D, nn.BatchNorm2D))]
    handles = [layer.register_forward_pre_hook(lambda layer, args: seen.append((layer, args[0]))) for layer in layers]
    net(x)
    for handle in handles:
        handle.remove()
    terms = []
    for layer, value in seen:
        axes = [0, *range(2, value.ndim)]
        mean, variance = value.mean(axes), value.var(axes, unbiased=False)
        terms.append((variance - layer._variance).norm() + (mean - layer._mean).norm())
    return paddle.stack(terms)


def images(shape, seed=1):
    x = paddle.to_tensor(np.random.RandomState(seed).standard_normal(shape).astype(np.float32))
    x.stop_gradient = False
    return x


@pytest.mark.parametrize("shape", [(4, 3, 16, 8), (2, 3, 9, 7), (1, 3, 4, 4)])
def test_terms_and_pixel_gradient(shape):
    net = TinyNet()
    net.eval()
    x = images(shape)
    with NormProbe(net) as probe:
        net(x)
        terms = statistics_terms(probe.take())
    expected = plain_terms(net, x)
    np.testing.assert_allclose(terms.numpy(), expected.numpy(), rtol=1e-5)
    weights = paddle.to_tensor([2.0, -1.0, 0.5])
    (gradient,) = paddle.grad((weights * terms).sum(), x)
    (wanted,) = paddle.grad((weights * expected).sum(), x)
    np.testing.assert_allclose(gradient.numpy(), wanted.numpy(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("shape", [(5, 4), (1, 4), (2, 3, 6, 5), (1, 2, 1, 1)])
def test_moments_are_biased_and_per_channel(shape):
    x = images(shape) * 3 + 100
    mean, variance = batch_moments(x)
    axes = tuple(i for i in range(len(shape)) if i != 1)
    np.testing.assert_allclose(mean.numpy(), x.numpy().mean(axes), rtol=1e-5)
    np.testing.assert_allclose(variance.numpy(), x.numpy().astype(np.float64).var(axes), rtol=1e-3, atol=1e-3)


def test_matching_statistics_cost_nothing_and_have_no_gradient():
    layer = nn.BatchNorm1D(3)
    layer.eval()
    x = paddle.to_tensor([[1.0, 2.0, 0.0], [-1.0, 0.0, 2.0]])
    x.stop_gradient = False
    layer._mean.set_value(x.detach().mean(0))
    layer._variance.set_value(x.detach().var(0, unbiased=False))
    with NormProbe(layer) as probe:
        layer(x)
        terms = statistics_terms(probe.take())
    (gradient,) = paddle.grad(terms.sum(), x)
    np.testing.assert_allclose(terms.numpy(), 0, atol=1e-6)
    assert np.isfinite(gradient.numpy()).all()


def test_only_the_first_term_is_multiplied():
    assert float(statistics_loss(paddle.to_tensor([1.0, 2.0, 4.0]), 10.0)) == 16.0


def test_hooks_are_gone_afterwards():
    net = TinyNet()
    net.eval()
    with NormProbe(net) as probe:
        net(images((2, 3, 8, 8)))
        assert len(probe.take()) == 3
        assert probe.take() == []
    net(images((2, 3, 8, 8)))
    assert probe.take() == []


@pytest.mark.parametrize(("variant", "count"), [("plain", 54), ("ibn_a", 54), ("separable", 54)])
def test_every_batch_norm_of_a_resnet50_counts_once(variant, count):
    net = build_net(50, 3, variant=variant).freeze()
    with NormProbe(net) as probe, paddle.no_grad():
        net(images((2, 3, 32, 16)))
        inputs = probe.take()
    assert len(inputs) == count
    assert inputs[-1].value.shape == [2, 2048]
    assert all(item.value.shape[1] == item.layer._mean.shape[0] for item in inputs)
