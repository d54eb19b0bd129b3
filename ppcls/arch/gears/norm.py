"""Norm layers: batch norm with the unbiased running variance, instance norm, IBN-a, per-domain banks.

Every layer keeps the parameter names of the public PyTorch checkpoints (``weight``, ``bias``); running
statistics keep Paddle's names (``_mean``, ``_variance``).
"""

from __future__ import annotations

import functools
import math

import paddle
import paddle.nn.functional as F
from paddle import nn

from ppcls.utils.errors import UserError

EPSILON = 1e-5
MOMENTUM = 0.9  # Paddle keeps 0.9 of the old statistics, which PyTorch writes as momentum 0.1


@functools.cache
def running_variance_is_biased(device: str) -> bool:
    """Whether Paddle's batch-norm kernel on ``device`` accumulates the biased batch variance (measured once).

    The CPU kernel does; cuDNN documents the unbiased one. A probe is safer than a list of devices.
    """
    with paddle.no_grad():
        x = paddle.to_tensor([0.0, 2.0], dtype="float32", place=device).reshape([2, 1, 1, 1])
        mean, variance = paddle.zeros([1]), paddle.zeros([1])
        F.batch_norm(x, mean, variance, training=True, momentum=0.0)
        return float(variance) < 1.5  # biased 1, unbiased 2


def _batch_norm(layer, x, running_variance, training: bool):
    weight, bias = _both_or_neither(layer.weight, layer.bias)
    return F.batch_norm(
        x,
        layer._mean,
        running_variance,
        weight=weight,
        bias=bias,
        training=training,
        momentum=MOMENTUM,
        epsilon=EPSILON,
        data_format="NC" if x.ndim == 2 else "NCHW",
        use_global_stats=layer._use_global_stats,
    )


def _both_or_neither(weight, bias):
    """The two, with the frozen one as a differentiable stand-in if the other is trained.

    Paddle's kernel gives a norm's weight a gradient only together with its bias; a BNNeck has a frozen bias.
    """
    if not paddle.in_dynamic_mode() or weight.stop_gradient == bias.stop_gradient:
        return weight, bias
    stand_ins = []
    for parameter in (weight, bias):
        if parameter.stop_gradient:
            parameter = parameter.detach()  # shares the values; its gradient goes nowhere
            parameter.stop_gradient = False
        stand_ins.append(parameter)
    return tuple(stand_ins)


def _forward(layer, x):
    """Batch norm of ``x``; in training the running variance accumulates the *unbiased* batch variance.

    Paddle's own update gives ``r' = m·r + (1-m)·v`` with the biased variance ``v`` of ``n`` values per
    channel. The unbiased one is ``v·n/(n-1)``, so the wanted value is ``r' + (r' - m·r)/(n-1)``: a few
    operations on C numbers. (A function, not a mixin: Paddle's tracer does not follow ``super()`` through
    several bases.)
    """
    if not (layer.training and layer.unbiased) or layer._use_global_stats:
        return _batch_norm(layer, x, layer._variance, layer.training)
    if not paddle.in_dynamic_mode():  # a traced program cannot assign to a running statistic
        raise UserError(
            "whole-graph to_static training cannot correct the running variance; build with bn_unbiased=False"
        )
    values = math.prod(x.shape) // x.shape[1]
    if values == 1 or not running_variance_is_biased(paddle.get_device()):
        return _batch_norm(layer, x, layer._variance, True)
    updated = layer._variance.detach().clone()  # what the graph saves must not change before backward
    out = _batch_norm(layer, x, updated, True)
    with paddle.no_grad():
        wanted = updated * (values / (values - 1)) - layer._variance * (MOMENTUM / (values - 1))
        paddle.assign(wanted, output=layer._variance)
    return out


class BatchNorm1D(nn.BatchNorm1D):
    """Batch norm of [B, C] features; eps 1e-5, momentum 0.9 (PyTorch 0.1).

    ``unbiased``: the running variance accumulates the unbiased batch variance, as in PyTorch; False leaves
    the update to Paddle's kernel (biased on CPU).
    """

    def __init__(self, num_features: int, unbiased: bool = True):
        super().__init__(num_features, momentum=MOMENTUM, epsilon=EPSILON)
        self.unbiased = unbiased

    def forward(self, x):
        return _forward(self, x)


class BatchNorm2D(nn.BatchNorm2D):
    """Batch norm of [B, C, H, W] maps; as :class:`BatchNorm1D`."""

    def __init__(self, num_features: int, unbiased: bool = True):
        super().__init__(num_features, momentum=MOMENTUM, epsilon=EPSILON)
        self.unbiased = unbiased

    def forward(self, x):
        return _forward(self, x)


class InstanceNorm(nn.Layer):
    """Affine instance norm of [B, C, H, W]; per-image statistics in training and evaluation, eps 1e-5."""

    def __init__(self, num_features: int):
        super().__init__()
        one = paddle.ParamAttr(initializer=nn.initializer.Constant(1.0))
        self.weight = self.create_parameter([num_features], attr=one)
        self.bias = self.create_parameter([num_features], is_bias=True)

    def forward(self, x):
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=EPSILON)


class IBN(nn.Layer):
    """IBN-a (Pan et al., ECCV 2018): instance norm on the first ⌊C/2⌋ channels, batch norm on the others."""

    def __init__(self, num_features: int, batch_norm=BatchNorm2D):
        super().__init__()
        self.half = num_features // 2
        self.IN = InstanceNorm(self.half)
        self.BN = batch_norm(num_features - self.half)

    def forward(self, x):
        first, second = paddle.split(x, [self.half, x.shape[1] - self.half], axis=1)
        return paddle.concat([self.IN(first), self.BN(second)], axis=1)


class DomainSelector:
    """The domain of the images now in the network, shared by all banks of one network.

    ``value`` is an int (whole batch) or a list of one int per image.
    """

    def __init__(self, num_domains: int):
        if num_domains < 1:
            raise UserError(f"num_domains is {num_domains}, but a separable network needs at least 1 domain")
        self.num_domains = num_domains
        self.value: int | list[int] = 0

    def select(self, domain, batch: int) -> None:
        """Set the domain: None (0), an int, or a sequence/tensor of ``batch`` ints in [0, num_domains)."""
        if domain is None:
            domain = 0
        if isinstance(domain, int):
            wanted, self.value = {domain}, domain
        else:
            labels = [int(d) for d in (domain.tolist() if hasattr(domain, "tolist") else domain)]
            if len(labels) != batch:
                raise UserError(f"{len(labels)} domain indices for a batch of {batch} images; give one each")
            wanted = set(labels)
            self.value = labels[0] if len(wanted) == 1 else labels
        wrong = sorted(d for d in wanted if not 0 <= d < self.num_domains)
        if wrong:
            last = self.num_domains - 1
            raise UserError(f"domain {wrong[0]} is outside 0…{last}; build with more num_domains")


class DomainBatchNorm(nn.Layer):
    """A bank of batch norms, one per domain; each image goes through (and updates) that of its own domain.

    Mixed batches keep their order. The layers of the bank are ``bns.<domain>``.
    """

    def __init__(self, num_features: int, selector: DomainSelector, batch_norm=BatchNorm2D):
        super().__init__()
        self.bns = nn.LayerList([batch_norm(num_features) for _ in range(selector.num_domains)])
        self.selector = selector

    def forward(self, x):
        domain = self.selector.value
        if isinstance(domain, int):
            return self.bns[domain](x)
        parts, order = [], []
        for d in sorted(set(domain)):
            rows = [i for i, owner in enumerate(domain) if owner == d]
            parts.append(self.bns[d](paddle.gather(x, paddle.to_tensor(rows))))
            order += rows
        back = sorted(range(len(order)), key=order.__getitem__)
        return paddle.gather(paddle.concat(parts), paddle.to_tensor(back))
