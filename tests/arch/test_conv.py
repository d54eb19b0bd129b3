"""The one-product convolution equals Paddle's, with gradients and gradients of gradients."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from ppcls.arch.gears import conv as gear


@pytest.mark.parametrize("size", [(1, 1), (2, 1), (4, 2), (3, 3)])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2)])
def test_equal_values_and_gradients(size, kernel, stride, monkeypatch):
    monkeypatch.setattr(gear, "SMALL_MAP", 9)
    layer = gear.Conv2D(5, 7, kernel, stride=stride, padding=kernel // 2, bias_attr=False)
    results = []
    for way in (layer, lambda x: F.conv2d(x, layer.weight, None, stride, kernel // 2)):
        x = paddle.to_tensor(np.random.default_rng(1).standard_normal((3, 5, *size)), dtype="float32")
        x.stop_gradient = False
        layer.clear_gradients()
        y = way(x)
        (gradient,) = paddle.grad((y**2).sum(), x, create_graph=True)
        ((gradient**2).sum() + y.sum()).backward()
        results.append([value.numpy() for value in (y, gradient, x.grad, layer.weight.grad)])
    for ours, kernels in zip(*results, strict=True):
        np.testing.assert_allclose(ours, kernels, rtol=1e-4, atol=1e-4 * np.abs(kernels).max())


def test_larger_maps_take_paddles_kernel(monkeypatch):
    monkeypatch.setattr(gear, "selection", lambda *_: pytest.fail("the map is not small"))
    gear.Conv2D(2, 3, 3, padding=1, bias_attr=False)(paddle.zeros([2, 2, 4, 2]))
