"""Convolution that stays fast on maps of a few pixels (CPU)."""

from __future__ import annotations

import functools

import numpy as np
import paddle
from paddle import nn

SMALL_MAP = 4
"""Output pixels up to which a batch is convolved by one matrix product."""


class Conv2D(nn.Conv2D):
    """A square convolution without bias and with "same" padding.

    Paddle's CPU kernel multiplies image by image. On the 2x1 to 2x2 maps that the last stage has for small pictures it
    reads the whole weight once per image for a handful of columns, and takes four times as long as one product over
    the batch. Both ways give the same values up to float rounding and can be differentiated twice.
    """

    def forward(self, x):
        if paddle.in_dynamic_mode() and self._groups == 1 and _is_small(x, self._stride[0]):
            return _one_product(x, self.weight, self._stride[0])
        return super().forward(x)


def _is_small(x, stride):
    return paddle.get_device() == "cpu" and _out(x.shape[2], stride) * _out(x.shape[3], stride) <= SMALL_MAP


def _out(size, stride):
    return (size - 1) // stride + 1


def _one_product(x, weight, stride):
    batch, channels, height, width = x.shape
    filters, _, kernel, _ = weight.shape
    rows, columns, chosen = _out(height, stride), _out(width, stride), selection(height, width, kernel, stride)
    patches = paddle.matmul(x.transpose([1, 0, 2, 3]).reshape([channels * batch, height * width]), chosen)
    patches = (
        patches.reshape([channels, batch, kernel**2, -1]).transpose([0, 2, 1, 3]).reshape([channels * kernel**2, -1])
    )
    out = paddle.matmul(weight.reshape([filters, -1]), patches)
    return out.reshape([filters, batch, rows, columns]).transpose([1, 0, 2, 3])


@functools.lru_cache(maxsize=64)
def selection(height: int, width: int, kernel: int, stride: int) -> paddle.Tensor:
    """0/1 matrix [H·W, kernel²·H'·W'] that picks from a flattened map what each weight sees at each output pixel."""
    rows, columns = _out(height, stride), _out(width, stride)
    chosen = np.zeros((height, width, kernel, kernel, rows, columns), dtype=np.float32)
    for i, j, row, column in np.ndindex(kernel, kernel, rows, columns):
        source = row * stride - kernel // 2 + i, column * stride - kernel // 2 + j
        if 0 <= source[0] < height and 0 <= source[1] < width:
            chosen[(*source, i, j, row, column)] = 1
    return paddle.to_tensor(chosen.reshape(height * width, -1))
