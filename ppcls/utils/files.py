"""Writes that a kill, a crash or a full disk cannot leave half done."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ppcls.utils.errors import UserError


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success fsync it and rename it over ``path``.

    The temporary file keeps the suffix (writers that look at it, such as Pillow, work) and starts with a dot, so
    that no listing of images or checkpoints takes it for a finished file. On failure it is removed.

    Raises:
        UserError: the disk is full, or the folder cannot be written.
    """
    path, temporary = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}.", suffix=f".part{path.suffix}", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
        _sync_folder(path.parent)
    except BrokenPipeError:  # a reader of the caller's output has left: nothing is wrong with this file
        raise
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose another folder"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def sweep_temporaries(folder: str | Path) -> int:
    """Remove what a killed writer's :func:`atomic_path` left in ``folder``; the number of files removed."""
    left = list(Path(folder).glob(".*.part*"))
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def atomic_write_bytes(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path`` so that a reader sees the old file or the new one, never a part."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def atomic_write_text(path: str | Path, text: str) -> None:
    """UTF-8 form of :func:`atomic_write_bytes`."""
    atomic_write_bytes(path, text.encode("utf-8"))


def atomic_write_json(path: str | Path, value: Any) -> None:
    """Indented JSON with a final newline, written atomically."""
    atomic_write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def append_line(path: str | Path, *lines: str) -> None:
    """Append whole lines in a single write and fsync them; lines of several writers never interleave.

    A last line that an earlier kill cut off is closed first, so that only itself is lost.

    Raises:
        UserError: the disk is full, or the file cannot be written.
    """
    path = Path(path)
    data = "".join(line.rstrip("\n") + "\n" for line in lines).encode("utf-8")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab+", buffering=0) as stream:
            size = stream.seek(0, os.SEEK_END)
            if size:
                stream.seek(size - 1)
                data = data if stream.read(1) == b"\n" else b"\n" + data
            if stream.write(data) != len(data):
                raise OSError("the disk is full")
            os.fsync(stream.fileno())
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}; free some space") from error


def read_json_lines(path: str | Path) -> list[dict]:
    """All whole records of a JSON-lines file; lines that a kill or a full disk cut off are left out. No file: empty."""
    path = Path(path)
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        with contextlib.suppress(json.JSONDecodeError):
            records.append(json.loads(line))
    return records


def digest(data: bytes, length: int = 16) -> str:
    """BLAKE2b of ``data`` as ``length`` hexadecimal characters; the same in every process."""
    return hashlib.blake2b(data, digest_size=32).hexdigest()[:length]


def digest_file(path: str | Path, length: int = 16) -> str:
    """:func:`digest` of a file's content, read in blocks."""
    state = hashlib.blake2b(digest_size=32)
    with Path(path).open("rb") as stream:
        while block := stream.read(1 << 20):
            state.update(block)
    return state.hexdigest()[:length]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable where the platform allows opening a folder."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
