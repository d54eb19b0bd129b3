"""Geometric distillation: cosines of embeddings, of residuals and of residuals of residuals.

Lu et al., "Augmented Geometric Distillation for Data-Free Incremental Person ReID", CVPR 2022. A
residual is e_j - e_i of two images i < j of one id. ``cosine`` alone is the less-forget term of Hou et
al., "Learning a Unified Classifier Incrementally via Rebalancing", CVPR 2019, equation 6.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import paddle

from ppcls.loss.distillation.base import Context, Distillation, embeddings
from ppcls.loss.labels import Labels, label_array, same_id_pairs
from ppcls.loss.pairwise import normalized_row_cosine, row_cosine
from ppcls.utils.errors import UserError

EMBEDDING_AND_IDS = frozenset({"embedding", "pids"})


def cosine(new: paddle.Tensor, old: paddle.Tensor) -> paddle.Tensor:
    """mean_i (1 - cos(new_i, old_i)) for [B, D] rows."""
    return (1.0 - row_cosine(new, old)).mean()


def sim_res(new: paddle.Tensor, old: paddle.Tensor, pids: Labels) -> paddle.Tensor:
    """mean (1 - cos) of corresponding residuals.

    Args:
        new, old: [B, D] embeddings of the same images.
        pids: [B] ids; counts per id may differ, single images take no part.

    Raises:
        UserError: no two images share an id.
    """
    pairs = _pairs(pids, new)
    return cosine(_residuals(new, pairs), _residuals(old, pairs))


def triangle(new: paddle.Tensor, old: paddle.Tensor, pids: Labels) -> paddle.Tensor:
    """mean (1 - cos) of embeddings + half of mean (1 - cos) of residuals.

    Arguments and errors as :func:`sim_res`.
    """
    pairs = _pairs(pids, new)
    return cosine(new, old) + _half_loss(_residuals(new, pairs), _residuals(old, pairs))


def res_triangle(new: paddle.Tensor, old: paddle.Tensor, pids: Labels) -> paddle.Tensor:
    """mean (1 - cos) of residuals + half of mean (1 - cos) of residuals of residuals of one id.

    The residuals of an id keep the row-major order of their pairs (i, j), i < j; their residuals do
    likewise. As a sign flip of one residual changes its differences from the others, the order of images
    *within* an id matters.

    Args:
        new, old: [B, D] embeddings of the same images.
        pids: [B] ids; an id with two images adds one residual, from three images on also residuals of
            residuals.

    Raises:
        UserError: no id has three images.
    """
    ids = label_array(pids, new.shape[0])
    pairs = _pairs(ids, new)
    second = same_id_pairs(ids[pairs[0]])
    if not len(second[0]):
        raise UserError("res-triangle needs an id with at least three images in each batch; sample 4 images per id")
    new_residual, old_residual = _residuals(new, pairs), _residuals(old, pairs)
    return cosine(new_residual, old_residual) + _half_loss(
        _residuals(new_residual, second), _residuals(old_residual, second)
    )


def _pairs(pids: Labels, features: paddle.Tensor) -> tuple[np.ndarray, np.ndarray]:
    pairs = same_id_pairs(label_array(pids, features.shape[0]))
    if not len(pairs[0]):
        raise UserError("geometric distillation needs two images of one id in each batch; this batch has none")
    return pairs


def _residuals(features: paddle.Tensor, pairs: tuple[np.ndarray, np.ndarray]) -> paddle.Tensor:
    first, second = (paddle.to_tensor(index) for index in pairs)
    return paddle.gather(features, second) - paddle.gather(features, first)


def _half_loss(new: paddle.Tensor, old: paddle.Tensor) -> paddle.Tensor:
    return 0.5 * (1.0 - normalized_row_cosine(new, old).mean())


@dataclass(frozen=True)
class Cosine(Distillation):
    """Type ``cosine``: :func:`cosine` of the embeddings."""

    needs: ClassVar[frozenset[str]] = frozenset({"embedding"})

    def _loss(self, student: Any, teacher: Any, pids: Any, context: Context) -> paddle.Tensor:
        return cosine(*embeddings(student, teacher))


@dataclass(frozen=True)
class SimRes(Distillation):
    """Type ``sim-res`` (simple geometric distillation): :func:`sim_res` of the embeddings."""

    needs: ClassVar[frozenset[str]] = EMBEDDING_AND_IDS

    def _loss(self, student: Any, teacher: Any, pids: Any, context: Context) -> paddle.Tensor:
        return sim_res(*embeddings(student, teacher), pids)


@dataclass(frozen=True)
class Triangle(Distillation):
    """Type ``triangle``: :func:`triangle` of the embeddings."""

    needs: ClassVar[frozenset[str]] = EMBEDDING_AND_IDS

    def _loss(self, student: Any, teacher: Any, pids: Any, context: Context) -> paddle.Tensor:
        return triangle(*embeddings(student, teacher), pids)


@dataclass(frozen=True)
class ResTriangle(Distillation):
    """Type ``res-triangle`` (the paper's geometric distillation): :func:`res_triangle` of the embeddings."""

    needs: ClassVar[frozenset[str]] = EMBEDDING_AND_IDS

    def _loss(self, student: Any, teacher: Any, pids: Any, context: Context) -> paddle.Tensor:
        return res_triangle(*embeddings(student, teacher), pids)
