"""A user's own images as a tree: `<root>/{train,query,gallery}/<person>/…`.

The camera of an image is the number after the first `_c` (or a leading `c`) of its file name, or, if the
image lies one level deeper, the number in the folder's name: `query/anna/cam3/x.jpg`. Person folders may be
called anything. If every one of them (in all splits) is a number, that number is the id; otherwise ids are
given from 1 in alphabetical order, except `0` (distractors) and `-1` (junk, dropped).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ppcls.data.dataset.base import SPLITS, ReIDData, list_folders, list_images, read_splits
from ppcls.data.sample import Sample
from ppcls.utils.errors import UserError

LAYOUT = "{train,query,gallery}/<person>/*_c<camera>*.jpg or {train,query,gallery}/<person>/<camera>/*.jpg"
_CAMERA_IN_NAME = re.compile(r"(?:^|_)c(\d+)", re.IGNORECASE)
_CAMERA_FOLDER = re.compile(r"(?:c|cam|camera)?[-_]?(\d+)", re.IGNORECASE)
_NUMBER = re.compile(r"-?\d+")


def person_ids(root: Path) -> dict[str, int]:
    """Id of every person folder, the same whichever splits are read."""
    present = [root / split for split in SPLITS if (root / split).is_dir()]
    names = sorted({folder.name for split in present for folder in list_folders(split)})
    if all(_NUMBER.fullmatch(name) for name in names):
        return {name: int(name) for name in names}
    kept = {"0": 0, "-1": -1}
    named = [name for name in names if name not in kept]
    return {**{name: kept[name] for name in names if name in kept}, **{n: i for i, n in enumerate(named, 1)}}


def _read_person(folder: Path, pid: int) -> list[Sample]:
    samples = []
    for path in list_images(folder):
        match = _CAMERA_IN_NAME.search(Path(path).name)
        if match is None:
            raise UserError(
                f"cannot tell the camera of {path}: put _c<number> in its name or move it to a camera sub-folder"
            )
        samples.append(Sample(path, pid, int(match.group(1))))
    for camera in list_folders(folder):
        match = _CAMERA_FOLDER.fullmatch(camera.name)
        if match is None:
            raise UserError(f"folder {camera} is not a camera; expected a name such as 3, c3 or cam3")
        samples += [Sample(path, pid, int(match.group(1))) for path in list_images(camera)]
    return samples


def read_folder(root: Path, splits: Sequence[str], name: str | None = None) -> ReIDData:
    """Read the tree below `root`.

    UserError on a missing folder, an empty split or an image without a camera.
    """
    if not root.is_dir():
        raise UserError(f"data set folder {root} does not exist; expected {LAYOUT} there")
    ids = person_ids(root)

    def read(split: str) -> list[Sample]:
        if not (root / split).is_dir():
            raise UserError(f"folder {root / split} does not exist; expected {root}/{LAYOUT}")
        return [s for folder in list_folders(root / split) for s in _read_person(folder, ids[folder.name])]

    return ReIDData(name or f"folder:{root}", str(root), **read_splits(splits, read, f"{root}/{LAYOUT}"))
