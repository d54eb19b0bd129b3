"""A user's own images as a table: a CSV file with the columns `path,pid,camid,split`.

Paths are absolute or relative to the CSV file; `split` is train, query or gallery; further columns are
ignored.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from ppcls.data.dataset.base import SPLITS, ReIDData, read_splits
from ppcls.data.sample import Sample
from ppcls.utils.errors import UserError

COLUMNS = ("path", "pid", "camid", "split")
LAYOUT = "a CSV file with the columns path,pid,camid,split"


def _parse_row(row: dict[str, str | None], where: str, folder: Path) -> tuple[str, Sample]:
    values = {column: (row.get(column) or "").strip() for column in COLUMNS}
    for column, value in values.items():
        if not value:
            raise UserError(f"{where}: column {column!r} is empty; expected {LAYOUT}")
    if values["split"] not in SPLITS:
        raise UserError(f"{where}: split {values['split']!r} is none of {', '.join(SPLITS)}")
    numbers = []
    for column in ("pid", "camid"):
        try:
            numbers.append(int(values[column]))
        except ValueError:
            raise UserError(f"{where}: {column} {values[column]!r} is not a whole number") from None
    return values["split"], Sample(str(folder / values["path"]), *numbers)


def read_csv(file: Path, splits: Sequence[str], name: str | None = None) -> ReIDData:
    """Read a table of images. UserError names the file and the line that is wrong."""
    if not file.is_file():
        raise UserError(f"data set file {file} does not exist; expected {LAYOUT}")
    rows: dict[str, list[Sample]] = {split: [] for split in SPLITS}
    try:
        with file.open(newline="", encoding="utf-8-sig") as handle:
            reader = csv.DictReader(handle, skipinitialspace=True)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise UserError(f"{file} line 1: column {', '.join(missing)} is missing; expected {LAYOUT}")
            for row in reader:
                split, sample = _parse_row(row, f"{file} line {reader.line_num}", file.parent)
                if split in splits and not Path(sample.path).is_file():
                    raise UserError(
                        f"{file} line {reader.line_num}: image {sample.path} does not exist (paths are relative to "
                        "the CSV file)"
                    )
                rows[split].append(sample)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"cannot read {file}: {error}; expected {LAYOUT} in UTF-8") from error
    return ReIDData(
        name or f"csv:{file}",
        str(file.parent),
        **read_splits(splits, rows.__getitem__, f"{LAYOUT} in {file}"),
    )
