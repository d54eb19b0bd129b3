"""The files of a persistent gallery: what is committed, and how it changes without ever being half changed.

=================  =====================================================================================
``gallery.json``   what the folder holds and how much of the other files counts; replaced atomically
``vectors-G.f32``  the embeddings, float32, row after row; grows at its end
``entries-G.jsonl``  one record per change: ids with labels and sources, or ids removed; grows at its end
=================  =====================================================================================

A change appends to both files, fsyncs them, and then replaces ``gallery.json``: only this commits it. What a killed
writer appended without committing lies behind the committed end and is cut off by the next writer. Committed bytes
never change while their generation G lasts, so readers need no lock. When much has been removed, everything is written
anew as generation G + 1.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ppcls.configs.options import Options, validate
from ppcls.metric.distance import squared_norms
from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_write_json

MANIFEST = "gallery.json"
# Below so many dead rows nothing is rewritten, however small the gallery.
COMPACT_MINIMUM = 256
_COPY_ROWS = 4096
_RETRIES = 5


class Manifest(Options):
    """``gallery.json``."""

    format: Literal[1] = 1
    feature_dim: int = Field(ge=1)
    model_digest: str
    token: str = Field(default_factory=lambda: secrets.token_hex(8), description="tells a gallery built anew apart")
    generation: int = Field(0, ge=0)
    rows: int = Field(0, ge=0, description="committed rows, removed ones included")
    log_bytes: int = Field(0, ge=0, description="committed length of the entries file")
    next_id: int = Field(0, ge=0, description="ids are never used twice")

    @property
    def vectors_file(self) -> str:
        """Name of the embeddings' file."""
        return f"vectors-{self.generation}.f32"

    @property
    def entries_file(self) -> str:
        """Name of the records' file."""
        return f"entries-{self.generation}.jsonl"


@dataclass(frozen=True)
class Entry:
    """One image of a gallery: its id, its label and the file it came from ("" if that was not told)."""

    id: int
    label: str
    source: str


@dataclass(frozen=True)
class Contents:
    """A gallery as one commit left it; never changed afterwards.

    Attributes:
        stamp: the manifest's bytes, which are others after every commit.
        vectors: float32 [rows, D], mapped from the file, not read into memory.
        norms: float64 [rows], squared L2 norms; ids: int64 [rows], rising; alive: bool [rows].
        labels, sources: text of each row.
    """

    stamp: bytes
    manifest: Manifest
    vectors: np.ndarray
    norms: np.ndarray
    ids: np.ndarray
    alive: np.ndarray
    labels: list[str]
    sources: list[str]

    def entry(self, row: int) -> Entry:
        """The image in a row."""
        return Entry(int(self.ids[row]), self.labels[row], self.sources[row])

    @property
    def dead(self) -> int:
        """Rows that were removed and still take space."""
        return len(self.alive) - int(np.count_nonzero(self.alive))


def read_contents(folder: Path, known: Contents | None = None) -> Contents:
    """The last commit; only what came after ``known`` is read.

    Raises:
        UserError: no gallery there, or one whose files do not fit its manifest.
    """
    for _ in range(_RETRIES):
        stamp = _stamp(folder)
        if known is not None and known.stamp == stamp:
            return known
        manifest = _manifest(folder, stamp)
        try:
            return _load(folder, stamp, manifest, known)
        except FileNotFoundError:  # another process has just written the next generation
            known = None
    raise UserError(f"gallery {folder}: {manifest.vectors_file} or {manifest.entries_file} is missing; build it anew")


def commit_first(folder: Path, manifest: Manifest) -> None:
    """An empty gallery in an existing folder."""
    _sweep(folder, keep=None)
    with _writing(folder):
        (folder / manifest.vectors_file).write_bytes(b"")
        (folder / manifest.entries_file).write_bytes(b"")
        atomic_write_json(folder / MANIFEST, manifest.model_dump())


def commit_rows(
    folder: Path, before: Contents, vectors: np.ndarray, labels: list[str], sources: list[str]
) -> list[int]:
    """Append rows; their new ids. The caller holds the folder's lock and has just read ``before``."""
    manifest = before.manifest
    ids = list(range(manifest.next_id, manifest.next_id + len(labels)))
    record = _line({"add": ids, "labels": labels, "sources": sources})
    row_bytes = 4 * manifest.feature_dim
    with _writing(folder):
        _append(
            folder / manifest.vectors_file, manifest.rows * row_bytes, np.ascontiguousarray(vectors, "<f4").tobytes()
        )
        _append(folder / manifest.entries_file, manifest.log_bytes, record)
    after = {"rows": manifest.rows + len(ids), "log_bytes": manifest.log_bytes + len(record)}
    atomic_write_json(folder / MANIFEST, manifest.model_dump() | after | {"next_id": manifest.next_id + len(ids)})
    return ids


def commit_removal(folder: Path, before: Contents, ids: list[int]) -> None:
    """Mark rows as removed. The caller holds the folder's lock and has just read ``before``."""
    manifest = before.manifest
    record = _line({"remove": ids})
    with _writing(folder):
        _append(folder / manifest.entries_file, manifest.log_bytes, record)
    after = {"log_bytes": manifest.log_bytes + len(record)}
    atomic_write_json(folder / MANIFEST, manifest.model_dump() | after)


def compact_if_worthwhile(folder: Path, before: Contents) -> None:
    """Write the living rows as a new generation once half of all rows are dead; the caller holds the lock."""
    if before.dead < COMPACT_MINIMUM or 2 * before.dead < len(before.alive):
        return
    old, living = before.manifest, np.flatnonzero(before.alive)
    manifest = old.model_copy(update={"generation": old.generation + 1, "rows": len(living)})
    record = _line(
        {
            "add": before.ids[living].tolist(),
            "labels": [before.labels[row] for row in living],
            "sources": [before.sources[row] for row in living],
        }
    )
    _sweep(folder, keep=old)
    with _writing(folder):
        with (folder / manifest.vectors_file).open("wb") as stream:
            for start in range(0, len(living), _COPY_ROWS):
                stream.write(before.vectors[living[start : start + _COPY_ROWS]].astype("<f4").tobytes())
            stream.flush()
            os.fsync(stream.fileno())
        _append(folder / manifest.entries_file, 0, record)
    atomic_write_json(folder / MANIFEST, manifest.model_dump() | {"log_bytes": len(record)})
    _sweep(folder, keep=manifest)


def _load(folder: Path, stamp: bytes, manifest: Manifest, known: Contents | None) -> Contents:
    identity = lambda of: (of.token, of.generation)  # noqa: E731
    if known is None or identity(known.manifest) != identity(manifest):
        known = _nothing(stamp, manifest)
    vectors = _map(folder / manifest.vectors_file, manifest)
    added = squared_norms(vectors[len(known.norms) :], f"gallery {folder}")
    contents = replace(
        known, stamp=stamp, manifest=manifest, vectors=vectors, norms=np.concatenate([known.norms, added])
    )
    contents = _replay(folder, contents, known.manifest.log_bytes)
    if len(contents.ids) != manifest.rows:
        raise UserError(
            f"gallery {folder} is damaged: {len(contents.ids)} entries for {manifest.rows} rows; build it anew"
        )
    return contents


def _nothing(stamp: bytes, manifest: Manifest) -> Contents:
    """The generation of ``manifest`` before its first row."""
    start = manifest.model_copy(update={"rows": 0, "log_bytes": 0})
    none = np.empty((0, manifest.feature_dim), np.float32)
    return Contents(stamp, start, none, np.empty(0), np.empty(0, np.int64), np.empty(0, bool), [], [])


def _map(path: Path, manifest: Manifest) -> np.ndarray:
    shape = (manifest.rows, manifest.feature_dim)
    size = path.stat().st_size
    if size < 4 * shape[0] * shape[1]:
        raise UserError(f"gallery {path.parent} is damaged: {path.name} holds {size} bytes, fewer than {shape} floats")
    return np.memmap(path, "<f4", "r", shape=shape) if manifest.rows else np.empty(shape, np.float32)


def _replay(folder: Path, contents: Contents, start: int) -> Contents:
    """Add the committed records from byte ``start`` on."""
    ids, labels, sources, gone = [contents.ids], list(contents.labels), list(contents.sources), []
    for record in _records(folder / contents.manifest.entries_file, start, contents.manifest.log_bytes):
        if "add" in record:
            ids.append(np.array(record["add"], np.int64))
            labels += record["labels"]
            sources += record["sources"]
        gone += record.get("remove", [])
    all_ids = np.concatenate(ids)
    alive = np.concatenate([contents.alive, np.ones(len(all_ids) - len(contents.alive), bool)])
    alive[np.searchsorted(all_ids, gone)] = False
    return replace(contents, ids=all_ids, alive=alive, labels=labels, sources=sources)


def _records(path: Path, start: int, end: int) -> Iterator[dict[str, Any]]:
    with path.open("rb") as stream:
        stream.seek(start)
        data = stream.read(end - start)
    if len(data) < end - start:
        raise UserError(f"gallery {path.parent} is damaged: {path.name} is cut off; build it anew")
    for line in data.splitlines():
        try:
            yield json.loads(line)
        except ValueError as error:
            raise UserError(
                f"gallery {path.parent} is damaged: {path.name} is not JSON lines; build it anew"
            ) from error


def _stamp(folder: Path) -> bytes:
    """The manifest's content, not its time and inode: both may recur when commits follow each other quickly."""
    path = folder / MANIFEST
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(
            f"{folder} holds no gallery ({MANIFEST} is missing); make one with tools/build_gallery.py"
        ) from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error}") from error


def _manifest(folder: Path, stamp: bytes) -> Manifest:
    path = folder / MANIFEST
    try:
        values = json.loads(stamp)
    except ValueError as error:
        raise UserError(f"cannot read {path}: {error}") from error
    return validate(Manifest, values if isinstance(values, dict) else {}, path)


def _append(path: Path, committed: int, data: bytes) -> None:
    """Write ``data`` behind the committed end, over whatever a killed writer left there."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    with os.fdopen(handle, "r+b") as stream:
        stream.truncate(committed)
        stream.seek(committed)
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sweep(folder: Path, keep: Manifest | None) -> None:
    """Remove the files of other generations."""
    kept = {keep.vectors_file, keep.entries_file} if keep else set()
    for path in [*folder.glob("vectors-*.f32"), *folder.glob("entries-*.jsonl")]:
        if path.name not in kept:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write gallery {folder}: {error.strerror or error}; free some space") from error


def _line(record: dict[str, Any]) -> bytes:
    return (json.dumps(record) + "\n").encode("utf-8")
