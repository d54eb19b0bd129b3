"""A memory of class centres used as a non-parametric classifier.

Zhong et al., "Invariance Matters: Exemplar Memory for Domain Adaptive Person Re-identification", CVPR
2019: softmax over cosines to stored unit vectors at temperature 0.05, moving-average update.
"""

from __future__ import annotations

import numpy as np
import paddle

from ppcls.loss.classification import cross_entropy
from ppcls.loss.labels import Labels, label_array
from ppcls.loss.pairwise import l2_normalize
from ppcls.loss.precision import full_precision
from ppcls.utils.errors import UserError


@full_precision
def memory_logits(embedding: paddle.Tensor, bank: paddle.Tensor, temperature: float = 0.05) -> paddle.Tensor:
    """Cosines of embeddings [B, D] to the stored centres [C, D] over the temperature: [B, C]."""
    return l2_normalize(embedding) @ l2_normalize(bank.detach()).t() / temperature


@full_precision
def memory_loss(
    embedding: paddle.Tensor, labels: Labels, bank: paddle.Tensor, temperature: float = 0.05
) -> paddle.Tensor:
    """Cross entropy of :func:`memory_logits`; the bank gets no gradient.

    Args:
        embedding: [B, D] float.
        labels: [B] rows of the bank.
        bank: [C, D] class centres, any length (they are normalised here).
        temperature: divides the cosines, > 0.

    Raises:
        UserError: a label without a row in the bank.
    """
    rows = _rows(labels, embedding, bank)
    return cross_entropy(memory_logits(embedding, bank, temperature), rows)


@full_precision
def update_bank(bank: paddle.Tensor, embedding: paddle.Tensor, labels: Labels, momentum: float = 0.5) -> paddle.Tensor:
    """A new bank: row c becomes unit(momentum·c + (1 - momentum)·mean of the unit embeddings labelled c).

    One update per class and batch, so the order inside the batch has no influence. Rows of absent
    classes stay.

    Args:
        bank: [C, D].
        embedding: [B, D].
        labels: [B] rows of the bank.
        momentum: share of the old row, in [0, 1].
    """
    rows = _rows(labels, embedding, bank)
    with paddle.no_grad():
        mean, present = _class_means(l2_normalize(embedding), rows, bank.shape[0])
        moved = l2_normalize(momentum * l2_normalize(bank) + (1.0 - momentum) * mean)
        return paddle.where(present, moved, bank)


@full_precision
def class_centres(embedding: paddle.Tensor, labels: Labels, classes: int) -> paddle.Tensor:
    """A first bank: unit mean of the unit embeddings [N, D] of each class, [classes, D].

    Raises:
        UserError: a class without an embedding, or a label outside 0..classes-1.
    """
    rows = _rows(labels, embedding, paddle.zeros([classes, 1]))
    with paddle.no_grad():
        mean, present = _class_means(l2_normalize(embedding), rows, classes)
        absent = np.nonzero(~present.numpy().reshape(-1))[0]
        if len(absent):
            raise UserError(f"class {absent[0]} has no image to compute its centre from")
        return l2_normalize(mean)


def _class_means(features: paddle.Tensor, rows: np.ndarray, classes: int) -> tuple[paddle.Tensor, paddle.Tensor]:
    member = paddle.to_tensor((np.arange(classes)[:, None] == rows[None, :]).astype(np.float32))
    member = member.astype(features.dtype)
    count = member.sum(1, keepdim=True)
    return member @ features / paddle.clip(count, min=1.0), count > 0


def _rows(labels: Labels, embedding: paddle.Tensor, bank: paddle.Tensor) -> np.ndarray:
    rows = label_array(labels, embedding.shape[0])
    outside = rows[(rows < 0) | (rows >= bank.shape[0])]
    if len(outside):
        raise UserError(f"label {outside[0]} has no row in a memory bank of {bank.shape[0]} classes")
    return rows
