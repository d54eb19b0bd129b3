"""The network behind the ground truth of embeddings."""

from __future__ import annotations

from pathlib import Path

from ppcls.arch.reid_net import build_net
from ppcls.configs.schema import check_depth
from ppcls.engine.checkpoint import CHECKPOINT, save_checkpoint
from ppcls.utils.errors import UserError

_CLASSES = 8


def write_reference(folder: Path, depth: int, height: int, width: int, seed: int) -> Path:
    """A ResNet whose weights are drawn from ``seed`` alone, as ``folder/checkpoint.pdparams``.

    Trained weights differ in their last digits from processor to processor, and soon in their first; these do not, so
    that embeddings by them can be compared across machines.

    Raises:
        UserError: no such depth, or the folder cannot be written.
    """
    try:
        check_depth(depth, None)
    except ValueError as error:
        raise UserError(str(error)) from error
    net = build_net(depth=depth, num_classes=_CLASSES, seed=seed)
    path = folder / CHECKPOINT
    save_checkpoint(path, net, 1, {"depth": depth, "height": height, "width": width})
    return path
