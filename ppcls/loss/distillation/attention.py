"""Distillation of gradient-weighted attention.

Grad-CAM: Selvaraju et al., ICCV 2017, equations 1 and 2. As a distillation target: Dhar et al.,
"Learning without Memorizing", CVPR 2019: the L1 distance of unit attention vectors for the teacher's top
class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import paddle
import paddle.nn.functional as F

from ppcls.loss.distillation.base import Context, Distillation, require_same_shape
from ppcls.loss.distillation.logits import old_columns
from ppcls.loss.pairwise import l2_normalize
from ppcls.loss.precision import widen
from ppcls.utils.errors import UserError


def attention_vector(maps: paddle.Tensor, gradients: paddle.Tensor, sum_channels: bool = False) -> paddle.Tensor:
    """Unit vectors of relu(a·A), a = spatial mean of the gradient of a class score by the activations A.

    Args:
        maps: activations A [B, C, H, W].
        gradients: of the score by ``maps``, [B, C, H, W].
        sum_channels: sum a·A over channels before the relu (Grad-CAM proper, [B, H·W]); otherwise each
            channel keeps its own map ([B, C·H·W]).
    """
    weighted = gradients.mean([2, 3], keepdim=True) * maps
    if sum_channels:
        weighted = weighted.sum(1)
    return l2_normalize(F.relu(weighted).reshape([maps.shape[0], -1]))


def attention_distance(new: paddle.Tensor, old: paddle.Tensor) -> paddle.Tensor:
    """Mean over images of the L1 distance of attention vectors [B, V]."""
    return (new - old).abs().sum(1).mean()


def grad_cam(
    maps: paddle.Tensor,
    logits: paddle.Tensor,
    classes: paddle.Tensor,
    sum_channels: bool = False,
    create_graph: bool = True,
) -> paddle.Tensor:
    """Attention vectors of one class per row of the scores, differentiable if asked.

    The gradient is that of the sum of the chosen scores. Where normalisation uses statistics of the
    batch (training mode), it includes the images' influence on each other.

    Args:
        maps: [B, C, H, W], a node of the graph of ``logits``.
        logits: [N, K], scores of the *last* N <= B images.
        classes: [N] int64, the class whose score is explained.
        sum_channels: see :func:`attention_vector`.
        create_graph: also differentiate the gradient (the weights a) by the network's parameters later
            on; needs a network of twice differentiable operators. ``False``: a is a constant.

    Returns:
        [N, V] unit vectors.

    Raises:
        UserError: ``logits`` cannot be differentiated by ``maps``, or not twice.
    """
    if logits.stop_gradient or maps.stop_gradient:
        raise UserError(
            "attention distillation needs gradients of the class scores by the maps; run the network without "
            "no_grad and with images.stop_gradient = False"
        )
    score = paddle.take_along_axis(logits, classes.reshape([-1, 1]), axis=1).sum()
    try:
        (gradients,) = paddle.grad(score, [maps], create_graph=create_graph, retain_graph=True)
    except RuntimeError as error:
        if "doesn't have any grad op" not in str(error):
            raise
        raise UserError(
            "this network cannot be differentiated twice (max pooling?); set second_order: false in the "
            "distillation's config"
        ) from error
    # Widened after the gradient: a cast copy of the maps is no node of the graph that leads to the scores.
    rows = slice(maps.shape[0] - logits.shape[0], None)
    return attention_vector(widen(maps[rows]), widen(gradients[rows]), sum_channels)


class _Attention(Distillation):
    """L1 distance of the attentions at one stage map for the teacher's top class."""

    needs: ClassVar[frozenset[str]] = frozenset({"maps", "logits", "attention"})
    sum_channels: ClassVar[bool]
    layer: int
    second_order: bool

    def __post_init__(self) -> None:
        name = type(self).__name__
        if isinstance(self.layer, bool) or not isinstance(self.layer, int):
            raise UserError(f"{name}: layer must be the index of a stage map, not {self.layer!r}")
        if not isinstance(self.second_order, bool):
            raise UserError(f"{name}: second_order must be true or false, not {self.second_order!r}")

    def _loss(self, student: Any, teacher: Any, pids: Any, context: Context) -> paddle.Tensor:
        count = min(len(student.maps), len(teacher.maps))
        if not -count <= self.layer < count:
            name = type(self).__name__
            raise UserError(f"{name}: layer {self.layer} of a network with {count} stage maps")
        require_same_shape(student.maps[self.layer], teacher.maps[self.layer], "maps")
        # Maps that were split off the joint batch are no ancestors of the scores; the joint ones are.
        source = (context.joint or student).maps[self.layer]
        top = teacher.logits.detach().argmax(axis=1)
        old = grad_cam(teacher.maps[self.layer], teacher.logits, top, self.sum_channels, create_graph=False)
        scores = old_columns(student.logits, teacher.logits)
        new = grad_cam(source, scores, top, self.sum_channels, create_graph=self.second_order)
        return attention_distance(new, old.detach())


@dataclass(frozen=True)
class GradCAM(_Attention):
    """Type ``GradCAM``: attention of every channel at stage map ``layer``.

    ``second_order: false`` holds the channel weights constant in the gradient.
    """

    sum_channels: ClassVar[bool] = False
    layer: int = -1
    second_order: bool = True


@dataclass(frozen=True)
class LwM(_Attention):
    """Type ``LwM`` (Learning without Memorizing): channel-summed attention at stage map ``layer``.

    ``second_order: false`` holds the channel weights constant in the gradient.
    """

    sum_channels: ClassVar[bool] = True
    layer: int = -1
    second_order: bool = True
