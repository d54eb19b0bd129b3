"""The fast convolutions give what Paddle's give."""

import numpy as np
import paddle
import pytest
from paddle import nn

from ppcls.arch.reid_net import build_net
from ppcls.inversion.small_maps import small_map_convolutions


@pytest.mark.parametrize("kernel", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (2, 1), (3, 3), (4, 2), (8, 4)])
def test_value_and_gradient(kernel, stride, size):
    layer = nn.Conv2D(4, 6, kernel, stride=stride, padding=kernel // 2)
    x = paddle.randn([3, 4, *size])
    x.stop_gradient = False
    expected = layer(x)
    weights = paddle.randn(expected.shape)
    (wanted,) = paddle.grad((expected * weights).sum(), x)
    with small_map_convolutions(layer):
        got = layer(x)
        (gradient,) = paddle.grad((got * weights).sum(), x)
    np.testing.assert_allclose(got.numpy(), expected.numpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient.numpy(), wanted.numpy(), rtol=1e-5, atol=1e-5)


def test_layers_are_as_before_afterwards():
    net = build_net(18, 3).freeze()
    x = paddle.randn([2, 3, 32, 16])
    before = net(x).logits.numpy()
    with small_map_convolutions(net):
        inside = net(x).logits.numpy()
    assert all("forward" not in vars(layer) for layer in net.sublayers())
    np.testing.assert_allclose(inside, before, rtol=1e-3, atol=1e-6)
    np.testing.assert_array_equal(net(x).logits.numpy(), before)
