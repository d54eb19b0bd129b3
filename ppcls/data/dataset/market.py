"""Bounding-box layout of Market-1501, shared by converted MSMT17, DukeMTMC-reID and CUHK03.

`<root>/{bounding_box_train,query,bounding_box_test}/<pid>_c<camera>….jpg`
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from ppcls.data.dataset.base import DATASETS, ReIDData, list_images, locate, read_splits
from ppcls.data.sample import Sample
from ppcls.utils.errors import UserError

SPLIT_FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
LAYOUT = "{bounding_box_train,query,bounding_box_test}/<pid>_c<camera>*.jpg"
_NAME = re.compile(r"([-\d]+)_c([-\d]+)")


def parse_name(path: str) -> tuple[int, int]:
    """(pid, camera) from the first `<pid>_c<camera>` in the file name; cameras may have several digits.

    UserError naming the file if the name does not hold one.
    """
    match = _NAME.search(Path(path).name)
    try:
        if match is None:
            raise ValueError(path)
        return int(match.group(1)), int(match.group(2))
    except ValueError:
        raise UserError(f"cannot read person and camera from the name of {path}; expected {LAYOUT}") from None


def read_bounding_boxes(root: Path, name: str, splits: Sequence[str], *, one_numbering: bool = True) -> ReIDData:
    """Read the bounding-box layout below `root`.

    UserError on a missing folder, an empty split or a bad name.
    """

    def read(split: str) -> list[Sample]:
        folder = root / SPLIT_FOLDERS[split]
        if not folder.is_dir():
            raise UserError(f"folder {folder} does not exist; data set {name!r} expects {root}/{LAYOUT}")
        return [Sample(path, *parse_name(path)) for path in list_images(folder)]

    layout = f"{root}/{LAYOUT}"
    return ReIDData(name, str(root), **read_splits(splits, read, layout), one_numbering=one_numbering)


@DATASETS.register("market")
def open_market(data_root: Path, splits: Sequence[str]) -> ReIDData:
    """Market-1501 (Zheng et al., ICCV 2015).

    Ids/images: 751/12,936 train, 750/3,368 query, 751/15,913 gallery.
    """
    folders = ("market", "market1501", "Market-1501-v15.09.15", "Market-1501", "Market1501")
    return read_bounding_boxes(locate(data_root, folders, LAYOUT), "market", splits)


@DATASETS.register("duke")
def open_duke(data_root: Path, splits: Sequence[str]) -> ReIDData:
    """DukeMTMC-reID (Zheng et al., ICCV 2017)."""
    folders = ("duke", "dukemtmc", "dukemtmcreid", "dukemtmc-reid", "DukeMTMC-reID")
    return read_bounding_boxes(locate(data_root, folders, LAYOUT), "duke", splits)


@DATASETS.register("cuhk03")
def open_cuhk03(data_root: Path, splits: Sequence[str]) -> ReIDData:
    """CUHK03 (Li et al., CVPR 2014), converted to the bounding-box layout."""
    return read_bounding_boxes(locate(data_root, ("cuhk03", "CUHK03"), LAYOUT), "cuhk03", splits)
