"""MSMT17 (Wei et al., CVPR 2018) in its original layout, or converted to the bounding-box layout.

Original: `<root>/{train,test}/<pid>/<pid>_<n>_<camera>_….jpg` and
`<root>/list_{train,val,query,gallery}.txt`, whose lines are `<file below train or test> <pid>`. Train and
test ids are counted separately, both from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ppcls.data.dataset import market
from ppcls.data.dataset.base import DATASETS, ReIDData, locate, read_splits
from ppcls.data.sample import Sample
from ppcls.utils.errors import UserError

LAYOUT = "{train,test}/<pid>/<pid>_<n>_<camera>_*.jpg and list_{train,val,query,gallery}.txt"
_FOLDERS = ("msmt17", "MSMT17", "MSMT17_V1", "MSMT17_V2")
_IMAGE_FOLDERS = {"train": ("train", "mask_train_v2"), "test": ("test", "mask_test_v2")}


def camera_of(path: str) -> int:
    """Camera = third `_` field of the file name. UserError naming the file if it is not a number."""
    fields = Path(path).name.split("_")
    if len(fields) < 4 or not fields[2].isdecimal():
        raise UserError(f"cannot read the camera from the name of {path}; expected <pid>_<n>_<camera>_*.jpg")
    return int(fields[2])


def read_list(list_file: Path, image_folder: Path) -> list[Sample]:
    """Samples of one `list_*.txt`. UserError names the list and the line that is wrong."""
    if not list_file.is_file():
        raise UserError(f"file {list_file} does not exist; MSMT17 expects {list_file.parent}/{LAYOUT}")
    samples = []
    for number, line in enumerate(list_file.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        name, _, pid = line.strip().rpartition(" ")
        try:
            samples.append(Sample(str(image_folder / name.strip()), int(pid), camera_of(name)))
        except ValueError:
            raise UserError(f"{list_file} line {number}: expected '<file> <pid>', found {line!r}") from None
    if samples and not Path(samples[0].path).is_file():
        raise UserError(f"{list_file} names {samples[0].path}, which does not exist; is the archive unpacked whole?")
    return samples


def read_msmt17_v1(root: Path, name: str, splits: Sequence[str], *, merge_val: bool = True) -> ReIDData:
    """Read the original layout below `root`; train = list_train + list_val unless `merge_val` is false."""
    lists = {
        "train": ("train", "val") if merge_val else ("train",),
        "query": ("query",),
        "gallery": ("gallery",),
    }

    def read(split: str) -> list[Sample]:
        part = "train" if split == "train" else "test"
        folders = [root / folder for folder in _IMAGE_FOLDERS[part] if (root / folder).is_dir()]
        if not folders:
            raise UserError(f"folder {root / part} does not exist; data set {name!r} expects {root}/{LAYOUT}")
        return [s for key in lists[split] for s in read_list(root / f"list_{key}.txt", folders[0])]

    return ReIDData(name, str(root), **read_splits(splits, read, f"{root}/{LAYOUT}"), one_numbering=False)


def has_lists(root: Path) -> bool:
    """Whether `root` is in MSMT17's original layout."""
    return any((root / f"list_{key}.txt").is_file() for key in ("train", "query", "gallery"))


def _open(data_root: Path, splits: Sequence[str], name: str, *, merge_val: bool) -> ReIDData:
    root = locate(data_root, _FOLDERS, f"{market.LAYOUT} or {LAYOUT}")
    for folder in (root, root / "MSMT17_V1"):
        if has_lists(folder):
            return read_msmt17_v1(folder, name, splits, merge_val=merge_val)
    if not merge_val:
        raise UserError(f"{root} holds no list_train.txt, so {name!r} cannot leave out the validation images")
    return market.read_bounding_boxes(root, name, splits, one_numbering=False)


@DATASETS.register("msmt17")
def open_msmt17(data_root: Path, splits: Sequence[str]) -> ReIDData:
    """MSMT17: 1041/32,621 train (with validation), 3060/11,659 query, 3060/82,161 gallery ids/images."""
    return _open(data_root, splits, "msmt17", merge_val=True)


@DATASETS.register("msmt17_noval")
def open_msmt17_noval(data_root: Path, splits: Sequence[str]) -> ReIDData:
    """MSMT17 in its original layout, trained on list_train.txt alone."""
    return _open(data_root, splits, "msmt17_noval", merge_val=False)
