"""Pillow's antialiased bilinear resize as a graph: the same bytes, for pictures of any size.

Pillow (``Resample.c``) resizes bytes in two passes, first along rows, then along columns. Each output pixel is a
weighted sum over a window; the weights come from a triangle that is widened when the picture shrinks, are normalised in
double precision and rounded to 22-bit fixed point, and every pass is rounded to bytes. Here each pass is one float64
matrix product: bytes times 22-bit weights that add up to 2**22 stay far below 2**53, so the sums are exact integers
in whatever order a runtime adds them, and the result is Pillow's, bit for bit.
"""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn

from ppcls.data.transform import MEAN, STD

_FIXED_POINT = float(1 << 22)  # Pillow's PRECISION_BITS: 32 bits, less 8 of a byte, less 2 to spare


def resize_weights(size_in, size_out: int) -> paddle.Tensor:
    """Fixed-point weights of one pass, float64 [size_out, size_in], whole numbers from 0 to 2**22.

    Args:
        size_in: int64 tensor of shape [1]; may be known only when the graph runs.
        size_out: pixels after the pass.
    """
    scale = size_in.astype("float64") / _double(size_out)
    support = paddle.maximum(scale, _double(1.0))  # half the width of the triangle, which is 1 where pictures grow
    centres = (paddle.to_tensor(np.arange(size_out)[:, None] + 0.5) * scale).reshape([size_out, 1])
    first = paddle.floor(centres - support + _double(0.5))
    last = paddle.floor(centres + support + _double(0.5))
    pixels = paddle.arange(0, size_in, dtype="int64").astype("float64").reshape([1, -1])
    offset = (pixels - centres + _double(0.5)) * (_double(1.0) / support)
    # Not abs, which oneDNN fuses into what precedes it and loses; not clip, which ONNX does in float32.
    distance = paddle.maximum(offset, _double(0.0) - offset)
    inside = paddle.logical_and(pixels >= first, pixels < last).astype("float64")
    weights = paddle.maximum(_double(1.0) - distance, _double(0.0)) * inside
    # A running sum adds from left to right as Pillow does; a reduction may add in another order and differ in the
    # last bit, which decides where a weight lies exactly between two fixed-point values.
    total = paddle.cumsum(weights, axis=1)[:, -1:]
    return paddle.floor(weights / total * _double(_FIXED_POINT) + _double(0.5))


class PillowResize(nn.Layer):
    """uint8 [N, h, w, 3] → float64 [N, 3, height, width] of whole numbers 0 … 255; h and w are free.

    Pillow starts with the columns where a picture is more than a hundred times as tall as wide and gets smaller. The
    order shows in single bytes, so both are computed; the one that does not count gets a single pixel as its input.
    """

    def __init__(self, height: int, width: int):
        super().__init__()
        self.height, self.width = height, width

    def forward(self, pictures):
        planes = pictures.astype("float64")
        shape = paddle.shape(planes).astype("int64")
        rows, columns = shape[1:2], shape[2:3]
        one = paddle.ones_like(rows)
        columns_first = paddle.logical_and(rows > columns * 100, rows > self.height)
        planes = planes.transpose([0, 3, 1, 2])
        usual = self._rows_first(planes, paddle.where(columns_first, one, rows), columns)
        tall = self._columns_first(
            planes, paddle.where(columns_first, rows, one), paddle.where(columns_first, columns, one)
        )
        return paddle.where(columns_first, tall, usual)

    def _rows_first(self, planes, rows, columns):
        between = _to_bytes(paddle.matmul(planes[:, :, :rows], self._across(columns)))
        return _to_bytes(paddle.matmul(resize_weights(rows, self.height), between))

    def _columns_first(self, planes, rows, columns):
        between = _to_bytes(paddle.matmul(resize_weights(rows, self.height), planes[:, :, :rows, :columns]))
        return _to_bytes(paddle.matmul(between, self._across(columns)))

    def _across(self, columns):
        """Weights [w, width]; transposed on their own, as paddle2onnx loses the float64 of ``transpose_y``."""
        return resize_weights(columns, self.width).transpose([1, 0])


class Preprocess(nn.Layer):
    """:class:`EvalTransform` as a graph: uint8 RGB [N, h, w, 3] → float32 [N, 3, height, width]."""

    def __init__(self, height: int, width: int):
        super().__init__()
        self.resize = PillowResize(height, width)
        self.register_buffer("scale", paddle.full([1], 255.0, "float32"))
        self.register_buffer("mean", paddle.to_tensor(np.asarray(MEAN, np.float32).reshape(1, 3, 1, 1)))
        self.register_buffer("std", paddle.to_tensor(np.asarray(STD, np.float32).reshape(1, 3, 1, 1)))

    def forward(self, pictures):
        # Division by tensors: by a Python number paddle multiplies with the reciprocal, which rounds differently.
        scaled = paddle.divide(self.resize(pictures).astype("float32"), self.scale)
        return paddle.divide(scaled - self.mean, self.std)


def _to_bytes(sums):
    """Fixed point to whole numbers, halves upwards, kept within a byte.

    The exact division by a power of two comes first: an addition right behind a matrix product is fused into it by
    Paddle Inference, and the fused kernel knows no float64.
    """
    rounded = paddle.floor(sums / _double(_FIXED_POINT) + _double(0.5))
    return paddle.minimum(rounded, _double(255.0))


def _double(value: float) -> paddle.Tensor:
    return paddle.full([1], value, "float64")
