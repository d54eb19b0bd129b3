"""Deleting the data of earlier tasks: listed first, then removed, so that a kill in between is gone on with exactly."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppcls.data.dataset import open_dataset
from ppcls.engine.stream.plan import DeleteOptions
from ppcls.inversion import list_images
from ppcls.utils.files import atomic_write_json
from ppcls.utils.logger import bold, get_logger

RECORD = "deletion.json"


@dataclass(frozen=True)
class Deletion:
    """What was removed.

    Attributes:
        what: in words.
        files, bytes: how many, and their size.
        kept: listed files that stayed because the stream still needs them.
        links: removed names that were symbolic links; the files they point to are untouched.
    """

    what: str
    files: int
    bytes: int
    kept: int
    links: int


def delete_data(options: DeleteOptions, folder: Path) -> Deletion:
    """Remove what ``options`` names; the list of files with their sizes is kept in ``folder``.

    Called again after a kill, it removes the rest of the same list, and reports the whole.

    Raises:
        UserError: the data set cannot be read.
    """
    record = folder / RECORD
    if not record.is_file():
        atomic_write_json(record, _list(options))
    listed = json.loads(record.read_text(encoding="utf-8"))
    for path, _ in listed["files"]:
        Path(path).unlink(missing_ok=True)
    deletion = read_deletion(folder)
    get_logger().info(
        "%s", bold(f"deleted {deletion.files} files ({deletion.bytes} bytes): {deletion.what}; list in {record}")
    )
    if deletion.kept:
        get_logger().info("%d files of that list are kept: the stream still needs them", deletion.kept)
    if deletion.links:
        get_logger().warning("%d of them were links; the files they point to are still there", deletion.links)
    return deletion


def read_deletion(folder: Path) -> Deletion:
    """What the list in ``folder`` says was removed."""
    listed = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    sizes = [size for _, size in listed["files"]]
    return Deletion(listed["what"], len(sizes), sum(sizes), listed["kept"], listed["links"])


def _list(options: DeleteOptions) -> dict[str, Any]:
    if options.dataset is None:
        images = list_images(options.folder)
        return _listed(f"dreamed images in {Path(options.folder).name}", images, images)
    data = open_dataset(options.dataset, options.data_root, ("train",))
    needed = _needed(options)
    images = sorted({Path(sample.path) for sample in data.train})
    return _listed(f"training images of {options.dataset}", images, [p for p in images if p.resolve() not in needed])


def _listed(what: str, images: Sequence[Path], doomed: Sequence[Path]) -> dict[str, Any]:
    return {
        "what": what,
        "kept": len(images) - len(doomed),
        "links": sum(path.is_symlink() for path in doomed),
        "files": [(str(path.absolute()), path.stat().st_size) for path in doomed],
    }


def _needed(options: DeleteOptions) -> set[Path]:
    """Files that must stay whatever list they are in: all test images, and what later tasks learn from."""
    found: set[Path] = set()
    for task in options.tasks:
        splits = ("train", "query", "gallery") if task in options.still_needed else ("query", "gallery")
        data = open_dataset(task, options.data_root, splits)
        found.update(Path(sample.path).resolve() for sample in [*data.train, *data.query, *data.gallery])
    return found
