"""Faster convolutions of a frozen network on small maps (CPU).

Paddle's CPU convolution multiplies image by image. On the small maps of the late stages that reads the whole
weight once per image for a handful of columns, and takes up to ten times longer than the arithmetic needs.
A frozen network allows two better ways, equal up to float rounding:

* a 1x1 convolution is one matrix product over all pixels of the batch;
* a convolution on a map of at most nine pixels is one dense matrix (built once, as the weights never change) on
  the flattened maps, with fewer multiplications than a 3x3 kernel that is mostly over the padding.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

_MAX_DENSE_PIXELS = 9
_MAX_DENSE_NUMBERS = 1 << 24
_MAX_POINTWISE_PIXELS = 8


@contextlib.contextmanager
def small_map_convolutions(net: nn.Layer) -> Iterator[None]:
    """Inside the block the ``Conv2D`` layers of a frozen ``net`` take the fast way where it is one.

    Does nothing on other devices than the CPU. The weights must not change inside the block.
    """
    if paddle.get_device() != "cpu":
        yield
        return
    layers = [layer for layer in net.sublayers(include_self=True) if isinstance(layer, nn.Conv2D) and _is_plain(layer)]
    for layer in layers:
        layer.forward = _FastForward(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


class _FastForward:
    """Replacement of one layer's ``forward``; keeps the dense matrices it builds, one per map size."""

    def __init__(self, layer):
        self._layer = layer
        self._stride = tuple(layer._stride)
        self._padding = tuple(layer._updated_padding)
        self._dense = {}

    def __call__(self, x):
        layer = self._layer
        batch, channels, height, width = x.shape
        filters, _, rows, columns = layer.weight.shape
        pixels = height * width
        if batch > 1 and (rows, columns) == (1, 1) and self._stride == (1, 1) and self._padding == (0, 0):
            if pixels <= _MAX_POINTWISE_PIXELS:
                return _pointwise(x, layer.weight.reshape([filters, channels]), layer.bias)
        elif batch > 1 and pixels <= _MAX_DENSE_PIXELS:
            out = _out_size(x.shape[2:], (rows, columns), self._stride, self._padding)
            if pixels * channels * filters * out[0] * out[1] <= _MAX_DENSE_NUMBERS:
                y = paddle.matmul(x.reshape([batch, -1]), self._matrix((height, width), out))
                y = y.reshape([batch, filters, *out])
                return y if layer.bias is None else y + layer.bias.reshape([1, -1, 1, 1])
        return F.conv2d(x, layer.weight, layer.bias, self._stride, self._padding)

    def _matrix(self, size, out):
        if size not in self._dense:
            weight = self._layer.weight.numpy()
            self._dense[size] = paddle.to_tensor(dense_matrix(weight, size, out, self._stride, self._padding))
        return self._dense[size]


def dense_matrix(weight: np.ndarray, size, out, stride, padding) -> np.ndarray:
    """The convolution as a matrix [C·H·W, O·H'·W'] acting on flattened maps from the left.

    Args:
        weight: [O, C, kH, kW].
        size: (H, W) of the input, ``out`` (H', W') of the output.
        stride: (rows, columns), ``padding`` likewise (zeros).
    """
    filters, channels, rows, columns = weight.shape
    matrix = np.zeros((channels, *size, filters, *out), dtype=weight.dtype)
    for y, x, row, column in np.ndindex(*out, rows, columns):
        source_y, source_x = y * stride[0] - padding[0] + row, x * stride[1] - padding[1] + column
        if 0 <= source_y < size[0] and 0 <= source_x < size[1]:
            matrix[:, source_y, source_x, :, y, x] = weight[:, :, row, column].T
    return matrix.reshape(channels * size[0] * size[1], filters * out[0] * out[1])


def _pointwise(x, weight, bias):
    batch, channels, height, width = x.shape
    pixels = x.reshape([batch, channels, -1]).transpose([1, 0, 2]).reshape([channels, -1])
    y = paddle.matmul(weight, pixels)
    y = y.reshape([-1, batch, height * width]).transpose([1, 0, 2]).reshape([batch, -1, height, width])
    return y if bias is None else y + bias.reshape([1, -1, 1, 1])


def _out_size(size, kernel, stride, padding):
    return tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(size, kernel, stride, padding, strict=True))


def _is_plain(layer):
    padding = getattr(layer, "_updated_padding", None)
    numbers = isinstance(padding, (list, tuple)) and len(padding) == 2 and all(isinstance(p, int) for p in padding)
    return (
        numbers
        and layer._groups == 1
        and tuple(layer._dilation) == (1, 1)
        and layer._data_format == "NCHW"
        and layer._padding_mode == "zeros"
    )
