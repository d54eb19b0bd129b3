"""Images that a previous model dreamed: `<folder>/{id}_{digest}.jpg`, id = class index of that model."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from ppcls.data.dataset.base import list_images
from ppcls.data.sample import Sample
from ppcls.utils.errors import UserError

LAYOUT = "{id}_{digest}.jpg or .png"
NO_CAMERA = -1


def open_dreamed(folder: str | Path, exemplars: int = 40) -> list[Sample]:
    """Samples of a flat folder of dreamed images, sorted by path, at most the first `exemplars` of each id.

    `pid` is the class index of the previous model, not relabelled; `camid` is −1, so batches stay grouped by
    id. UserError if the folder is missing or empty, or a file name does not split at `_` into a number and a
    digest.
    """
    folder = Path(folder)
    if exemplars < 1:
        raise UserError(f"exemplars must be at least 1, not {exemplars}")
    if not folder.is_dir():
        raise UserError(f"folder of dreamed images {folder} does not exist; make it with tools/inversion.py")
    taken: Counter[int] = Counter()
    samples = []
    for path in list_images(folder):
        fields = Path(path).stem.split("_")
        if len(fields) != 2 or not fields[0].isdecimal():
            raise UserError(f"{path} is not named like a dreamed image; expected {LAYOUT}")
        pid = int(fields[0])
        taken[pid] += 1
        if taken[pid] <= exemplars:
            samples.append(Sample(path, pid, NO_CAMERA))
    if not samples:
        raise UserError(f"folder {folder} holds no dreamed image; expected files named {LAYOUT}")
    return samples
