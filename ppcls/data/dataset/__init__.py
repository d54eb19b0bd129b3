"""Data sets by name: one file per on-disk layout, one function to open any of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ppcls.data.dataset import market, msmt17_v1
from ppcls.data.dataset.base import (
    DATASETS,
    SPLITS,
    MixedData,
    ReIDData,
    check_splits,
    train_labels,
)
from ppcls.data.dataset.csv import read_csv
from ppcls.data.dataset.folder import LAYOUT as FOLDER_LAYOUT
from ppcls.data.dataset.folder import read_folder
from ppcls.data.dataset.mixed import mix, parse_expression
from ppcls.utils.errors import UserError

__all__ = ["DATASETS", "SPLITS", "MixedData", "ReIDData", "open_dataset", "train_labels"]

_READERS: dict[str, Callable[[Path, Sequence[str]], ReIDData]] = {"folder": read_folder, "csv": read_csv}
_ALIASES = {
    "market1501": "market",
    "dukemtmc": "duke",
    "dukemtmcreid": "duke",
    "msmt17v1": "msmt17",
    "msmt17noval": "msmt17_noval",
}


def open_dataset(name: str, data_root: str | Path, splits: Sequence[str] = ("train", "query", "gallery")) -> ReIDData:
    """Open a data set, or several as one.

    name: a registered name or alias (`market`, `msmt17`, `MSMT17_V1`, `duke`, `cuhk03`, …), the name of any
    other folder below `data_root`, `folder:PATH`, `csv:PATH`, or a mix of those: `a+b` evaluates the queries
    of each part separately against the joint gallery, `aUb` joins the queries as well. splits: which of
    train, query and gallery to read; the others stay empty.

    UserError if a folder is missing, a split is empty, or a name cannot be parsed.
    """
    splits, root = check_splits(splits), Path(data_root)
    parts = parse_expression(name.strip(), lambda member: _exists(member, root))
    opened = [[_open_one(member, root, splits) for member in part] for part in parts]
    return opened[0][0] if len(opened) == len(opened[0]) == 1 else mix(name.strip(), opened)


def _registered(name: str) -> str | None:
    plain = name.lower().replace("-", "").replace("_", "")
    if plain in _ALIASES:
        return _ALIASES[plain]
    return name.lower() if name.lower() in DATASETS.names() else None


def _split_prefix(name: str) -> tuple[str, Path] | None:
    prefix, colon, path = name.partition(":")
    return (prefix, Path(path)) if colon and prefix in _READERS and path else None


def _exists(name: str, data_root: Path) -> bool:
    prefixed = _split_prefix(name)
    if prefixed:
        return prefixed[1].exists()
    return bool(name) and (_registered(name) is not None or (data_root / name).is_dir())


def _open_one(name: str, data_root: Path, splits: Sequence[str]) -> ReIDData:
    prefixed = _split_prefix(name)
    if prefixed:
        return _READERS[prefixed[0]](prefixed[1], splits)
    registered = _registered(name)
    if registered is None and (data_root / name).is_dir():
        return _detect(data_root / name, name, splits)
    return DATASETS.get(registered or name)(data_root, splits)


def _detect(folder: Path, name: str, splits: Sequence[str]) -> ReIDData:
    """Open a folder of an unregistered name by the layout that it shows."""
    if msmt17_v1.has_lists(folder):
        return msmt17_v1.read_msmt17_v1(folder, name, splits)
    if any((folder / market.SPLIT_FOLDERS[split]).is_dir() for split in ("train", "gallery")):
        return market.read_bounding_boxes(folder, name, splits)
    if any((folder / split).is_dir() for split in SPLITS):
        return read_folder(folder, splits, name)
    raise UserError(
        f"folder {folder} holds no data set that is known here; "
        f"expected {market.LAYOUT}, {msmt17_v1.LAYOUT} or {FOLDER_LAYOUT}"
    )
