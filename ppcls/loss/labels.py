"""Person ids of a batch as index arrays: which pairs of rows show the same person."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import paddle

from ppcls.utils.errors import UserError

Labels = paddle.Tensor | np.ndarray | Sequence[int]


def label_array(pids: Labels, batch: int) -> np.ndarray:
    """Ids as int64 [batch] on the host.

    Raises:
        UserError: there are not ``batch`` of them.
    """
    ids = np.asarray(pids.numpy() if isinstance(pids, paddle.Tensor) else pids).reshape(-1)
    if len(ids) != batch:
        raise UserError(f"{len(ids)} person ids for a batch of {batch} features; give one id per feature")
    return ids.astype(np.int64)


def class_labels(labels: Labels, batch: int, classes: int, owner: str = "classifier") -> np.ndarray:
    """Class labels as int64 [batch] on the host, each in 0..classes-1.

    Args:
        owner: what has the classes, for the message.

    Raises:
        UserError: a label outside, or not ``batch`` labels.
    """
    ids = label_array(labels, batch)
    outside = ids[(ids < 0) | (ids >= classes)]
    if len(outside):
        raise UserError(
            f"class label {outside[0]} for a {owner} with {classes} classes (0..{classes - 1}); "
            f"expand the {owner} or relabel the data"
        )
    return ids


def same_id(ids: np.ndarray) -> np.ndarray:
    """Boolean [B, B]: rows that share an id, the row itself included."""
    return ids[:, None] == ids[None, :]


def same_id_pairs(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index arrays (i, j) of all pairs i < j with equal ids, row-major."""
    return np.nonzero(np.triu(same_id(ids), 1))
