"""What the teacher makes of the dreamed JPEG files, read back from disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from ppcls.data.image import load_image
from ppcls.data.transform import EvalTransform
from ppcls.inversion.archive import list_images
from ppcls.inversion.synthesizer import frozen
from ppcls.utils.errors import UserError


def measure_quality(
    net: nn.Layer, folder: str | Path, height: int = 256, width: int = 128, batch_size: int = 64
) -> dict:
    """Accuracy and confidence of a teacher on the images of ``folder``.

    Args:
        net: ``net(x).logits`` [B, C]; used in evaluation mode, given back in the mode it came in.
        folder: with files ``{id}_{digest}.jpg|png``.
        height: of the network's input, pixels; ``width`` likewise.
        batch_size: images per forward pass.

    Returns:
        dict for JSON: ``images``, ``classes``, ``images_per_class`` [min, max], ``accuracy`` (0 to 1),
        ``confidence`` (mean probability of the target), ``ce`` (mean cross-entropy),
        ``worst_classes`` (up to ten ``{"id", "images", "accuracy"}``, least accurate first).

    Raises:
        UserError: no images, a file that cannot be read, or an id that the teacher does not have.
    """
    paths = list_images(folder)
    if not paths:
        raise UserError(f"no dreamed images ({{id}}_{{digest}}.jpg) in {folder}")
    targets = np.array([int(path.name.split("_")[0]) for path in paths], dtype=np.int64)
    if targets.max() >= net.num_classes:
        raise UserError(
            f"{folder} has images of class {targets.max()}, the teacher has {net.num_classes} classes; "
            "give the teacher that dreamed them"
        )
    losses, predicted = _predict(net, paths, targets, EvalTransform(height, width), batch_size)
    hits = predicted == targets
    classes, counts = np.unique(targets, return_counts=True)
    accuracies = np.array([hits[targets == target].mean() for target in classes])
    worst = np.argsort(accuracies, kind="stable")[:10]
    return {
        "images": len(paths),
        "classes": len(classes),
        "images_per_class": [int(counts.min()), int(counts.max())],
        "accuracy": float(hits.mean()),
        "confidence": float(np.exp(-losses).mean()),
        "ce": float(losses.mean()),
        "worst_classes": [
            {"id": int(classes[i]), "images": int(counts[i]), "accuracy": float(accuracies[i])} for i in worst
        ],
    }


def _predict(net, paths, targets, transform, batch_size):
    losses, predicted = [], []
    with frozen(net), paddle.no_grad():
        for start in range(0, len(paths), batch_size):
            part = slice(start, start + batch_size)
            images = np.stack([transform(load_image(str(path))) for path in paths[part]])
            logits = net(paddle.to_tensor(images)).logits
            labels = paddle.to_tensor(targets[part])
            losses.append(F.cross_entropy(logits, labels, reduction="none").flatten().numpy())
            predicted.append(logits.argmax(axis=1).numpy())
    return np.concatenate(losses), np.concatenate(predicted)
