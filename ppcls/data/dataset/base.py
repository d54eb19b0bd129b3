"""What a data set is in memory, and the checks that every on-disk layout shares."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ppcls.data.sample import Sample
from ppcls.utils.errors import UserError
from ppcls.utils.registry import Registry

SPLITS = ("train", "query", "gallery")
IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png")
JUNK_PID = -1

DATASETS = Registry("data set")
"""Plain names → opener(data_root: Path, splits) → ReIDData."""


@dataclass
class ReIDData:
    """A re-identification data set. Lists are sorted by path, ids and cameras are the raw numbers of the
    files.

    A split that was not asked for is an empty list. `one_numbering` is False where train and test ids are
    counted separately (MSMT17), so that an equal number does not mean an equal person.
    """

    name: str
    root: str
    train: list[Sample] = field(default_factory=list)
    query: list[Sample] = field(default_factory=list)
    gallery: list[Sample] = field(default_factory=list)
    one_numbering: bool = True

    @property
    def queries(self) -> list[tuple[str, list[Sample]]]:
        """Query sets that are evaluated separately against the gallery: here exactly one."""
        return [(self.name, self.query)]

    @property
    def num_train_ids(self) -> int:
        """Number of distinct persons in the training split."""
        return len({sample.pid for sample in self.train})

    def subsets(self) -> list[tuple[str, list[Sample]]]:
        """The non-empty subsets with the names that the banner shows."""
        rows = [("train", self.train), ("query", self.query), ("gallery", self.gallery)]
        return [(name, samples) for name, samples in rows if samples]

    def banner(self) -> str:
        """Table `subset | # ids | # images | # cameras`, one row per non-empty subset."""
        rows = [("subset", "# ids", "# images", "# cameras")]
        for subset, samples in self.subsets():
            ids = len({sample.pid for sample in samples})
            cameras = len({sample.camid for sample in samples})
            rows.append((subset, str(ids), str(len(samples)), str(cameras)))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [" | ".join([row[0].ljust(widths[0])] + [row[c].rjust(widths[c]) for c in (1, 2, 3)]) for row in rows]
        rule = "-" * len(lines[0])
        return "\n".join([f"{self.name} ({self.root})", rule, lines[0], rule, *lines[1:], rule])


@dataclass
class MixedData(ReIDData):
    """Several data sets as one: joint train and gallery, several query sets, non-overlapping ids and cameras.

    `query` is the concatenation of all query sets; `Sample.domain` is the index of the data set in the name.
    """

    query_sets: list[tuple[str, list[Sample]]] = field(default_factory=list)

    @property
    def queries(self) -> list[tuple[str, list[Sample]]]:
        """(name, samples) of each query set, in the order of the expression."""
        return self.query_sets

    def subsets(self) -> list[tuple[str, list[Sample]]]:
        """As for a plain data set, with one query row per query set."""
        rows = [("train", self.train)]
        rows += [(f"query {name}", samples) for name, samples in self.query_sets]
        rows += [("gallery", self.gallery)]
        return [(name, samples) for name, samples in rows if samples]


def train_labels(samples: Iterable[Sample]) -> dict[int, int]:
    """Map raw person ids to class indices: sorted ids → 0 … C−1."""
    return {pid: label for label, pid in enumerate(sorted({sample.pid for sample in samples}))}


def check_splits(splits: Sequence[str]) -> tuple[str, ...]:
    """The splits (or the single one) as a tuple; UserError on other names than train, query, gallery."""
    names = (splits,) if isinstance(splits, str) else tuple(splits)
    for split in names:
        if split not in SPLITS:
            raise UserError(f"unknown split {split!r}: choose from {', '.join(SPLITS)}")
    return names


def list_images(folder: Path) -> list[str]:
    """Full paths of the jpg/jpeg/png files (any case) directly in `folder`, sorted, without hidden files."""
    with os.scandir(folder) as entries:
        return sorted(
            entry.path
            for entry in entries
            if entry.name.lower().endswith(IMAGE_EXTENSIONS) and not entry.name.startswith(".")
        )


def list_folders(folder: Path) -> list[Path]:
    """Sub-folders of `folder`, sorted by name; hidden ones are left out."""
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def locate(data_root: Path, candidates: Sequence[str], layout: str) -> Path:
    """First existing `data_root/candidate`; if none exists, UserError naming the first one and the layout."""
    for candidate in candidates:
        if (data_root / candidate).is_dir():
            return data_root / candidate
    raise UserError(
        f"data set folder {data_root / candidates[0]} does not exist; expected {layout} there "
        "(give the folder above it with --data-root)"
    )


def read_splits(splits: Sequence[str], read: Callable[[str], list[Sample]], layout: str) -> dict[str, list[Sample]]:
    """Read each split, drop junk (pid −1), keep pid 0, sort by path.

    UserError if a split ends up empty or an id is below −1, naming what and the layout expected.
    """
    result = {}
    for split in check_splits(splits):
        samples = []
        for sample in read(split):
            if sample.pid < JUNK_PID:
                raise UserError(f"person id {sample.pid} of {sample.path} is negative; only -1 (junk) may be")
            if sample.pid != JUNK_PID:
                samples.append(sample)
        if not samples:
            raise UserError(f"split {split!r} holds no usable image; expected {layout}")
        result[split] = sorted(samples)
    return result
