"""Distance between the batch-norm statistics of dreamed images and those the teacher stored while training.

Source: Yin et al., CVPR 2020, equation 5 (norms, not squared norms).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import paddle
import paddle.nn.functional as F
from paddle import nn
from paddle.autograd import PyLayer

from ppcls.arch.gears.norm import running_variance_is_biased

_NORMS = (nn.BatchNorm1D, nn.BatchNorm2D, nn.BatchNorm3D, nn.SyncBatchNorm, nn.BatchNorm)
_EPSILON = 1e-5
_TINY = 1e-30


@dataclass
class NormInput:
    """What one batch norm was given: the layer and its input [B, C, ...], still part of the graph."""

    layer: nn.Layer
    value: paddle.Tensor


class NormProbe:
    """Context manager that notes the input of every batch norm of a network, in execution order.

    Instance norms have no stored statistics and are left out: of an IBN-a layer only the batch-norm half counts.
    The hooks are removed on exit.

        with NormProbe(net) as probe:
            net(x)
            terms = statistics_terms(probe.take())
    """

    def __init__(self, net: nn.Layer):
        self._layers = [layer for layer in net.sublayers(include_self=True) if isinstance(layer, _NORMS)]
        self._handles = []
        self._inputs: list[NormInput] = []

    def __enter__(self) -> NormProbe:
        self._handles = [layer.register_forward_pre_hook(self._note) for layer in self._layers]
        return self

    def __exit__(self, *exc_info) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []
        self._inputs = []

    def take(self) -> list[NormInput]:
        """The inputs noted since the last call; forgets them, so that the graph can be freed."""
        inputs, self._inputs = self._inputs, []
        return inputs

    def _note(self, layer, inputs):
        self._inputs.append(NormInput(layer, inputs[0]))


def statistics_terms(inputs: list[NormInput]) -> paddle.Tensor:
    """‖v_l - σ²_l‖₂ + ‖m_l - μ_l‖₂ of every batch norm l.

    m, v: mean and biased variance of the input over all axes but the channels; μ, σ²: the layer's running
    statistics; the norms are over the channels.

    Returns:
        float32 [L] in execution order, differentiable in the inputs.
    """
    layers = [item.layer for item in inputs]
    return _StatisticsTerms.apply(layers, *(item.value for item in inputs))


def statistics_loss(terms: paddle.Tensor, first_multiplier: float = 10.0) -> paddle.Tensor:
    """Sum of the terms [L] with the first (the stem's) multiplied. → scalar."""
    return terms.sum() + (first_multiplier - 1.0) * terms[0]


def batch_moments(x: paddle.Tensor) -> tuple[paddle.Tensor, paddle.Tensor]:
    """Mean and biased variance per channel of ``x`` [B, C, ...]: two tensors [C], without gradient."""
    with paddle.no_grad():
        channels = x.shape[1]
        count = x.size // channels
        if count == 1:  # Paddle's kernel passes a single value through without touching its statistics
            return x.detach().reshape([channels]), paddle.zeros([channels], x.dtype)
        mean, variance = paddle.zeros([channels], x.dtype), paddle.zeros([channels], x.dtype)
        # the training kernel of batch norm is the fastest reduction there is: 50 times paddle.var on CPU
        F.batch_norm(x, mean, variance, training=True, momentum=0.0, epsilon=_EPSILON)
        if not running_variance_is_biased(paddle.get_device()):
            variance = variance * ((count - 1) / count)
        return mean, variance


def _scale_channels(x, scale, shift):
    """x·scale + shift per channel, by the inference kernel of batch norm: one pass, no slow broadcast."""
    zero = paddle.zeros_like(scale)
    return F.batch_norm(
        x, zero, paddle.full_like(scale, 1 - _EPSILON), weight=scale, bias=shift, training=False, epsilon=_EPSILON
    )


class _StatisticsTerms(PyLayer):
    """All terms at once, with the closed-form gradient.

    d term/dx = [ (m-μ)/‖m-μ‖ + 2 (x-m) (v-σ²)/‖v-σ²‖ ] / N, an affine map per channel: one pass over each
    input, where automatic differentiation of mean and variance takes a dozen.
    """

    @staticmethod
    def forward(ctx, layers, *inputs):
        ctx.save_for_backward(*inputs)
        ctx.moments = []
        terms = []
        for layer, x in zip(layers, inputs, strict=True):
            mean, variance = batch_moments(x)
            d_mean, d_variance = mean - layer._mean, variance - layer._variance
            norm_mean = paddle.square(d_mean).sum().sqrt()
            norm_variance = paddle.square(d_variance).sum().sqrt()
            ctx.moments.append((mean, d_mean / norm_mean.clip(min=_TINY), d_variance / norm_variance.clip(min=_TINY)))
            terms.append(norm_mean + norm_variance)
        return paddle.stack(terms)

    @staticmethod
    def backward(ctx, upstream):
        gradients = []
        for x, (mean, to_mean, to_variance), weight in zip(
            ctx.saved_tensor(), ctx.moments, upstream.unbind(), strict=True
        ):
            weight = weight * (x.shape[1] / math.prod(x.shape))
            scale = to_variance * (2 * weight)
            gradients.append(_scale_channels(x, scale, to_mean * weight - scale * mean))
        return tuple(gradients)
