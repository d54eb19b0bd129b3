"""Folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ppcls.utils.errors import UserError

_LOCK = ".lock"


@contextlib.contextmanager
def staged_folder(target: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside ``target``; on success its files are fsynced and it takes the target's place.

    A folder that stood there before is moved out of the way by a rename just before and removed just after, so that a
    reader finds the old files or the new ones. On failure the target is as it was and the staged folder is gone; what
    a killed process left is removed by the next call for the same target.

    Whether an existing target may be replaced is the caller's to say, before calling.

    Raises:
        UserError: the disk is full, or the parent folder cannot be written.
    """
    target = Path(target).resolve()  # of a link, what it points to is replaced
    prefix = f".{target.name}."
    staged, lock = None, None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target, prefix)
        staged = Path(tempfile.mkdtemp(prefix=prefix, suffix=".part", dir=target.parent))
        lock = (staged / _LOCK).open("w")
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield staged
        (staged / _LOCK).unlink()
        _sync_all(staged)
        staged.chmod(0o777 & ~_umask())
        _swap(staged, target, prefix)
    except BrokenPipeError:  # a reader of the caller's output has left: nothing is wrong with this folder
        raise
    except OSError as error:
        if error.filename is not None and target.parent not in Path(os.fsdecode(error.filename)).resolve().parents:
            raise  # about a file elsewhere
        raise UserError(
            f"cannot write {target}: {error.strerror or error}; free some space or choose another folder"
        ) from error
    finally:
        if staged is not None:
            shutil.rmtree(staged, ignore_errors=True)
        if lock is not None:
            lock.close()


def _swap(staged: Path, target: Path, prefix: str) -> None:
    if not target.exists():
        staged.rename(target)
    else:
        old = Path(tempfile.mkdtemp(prefix=prefix, suffix=".old", dir=target.parent))
        target.rename(old)  # an empty folder may be renamed over
        try:
            staged.rename(target)
        except OSError:
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    _sync(target.parent)


def _sweep(target: Path, prefix: str) -> None:
    """Bring back a target whose replacement was killed between its two renames; remove what dead processes left."""
    for old in target.parent.glob(f"{_escaped(prefix)}*.old"):
        if not target.exists() and any(old.iterdir()):
            old.rename(target)
        else:
            shutil.rmtree(old, ignore_errors=True)
    for staged in target.parent.glob(f"{_escaped(prefix)}*.part"):
        if (staged / _LOCK).is_file() and not _is_held(staged / _LOCK):
            shutil.rmtree(staged, ignore_errors=True)


def _is_held(lock: Path) -> bool:
    with lock.open("r") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _sync_all(folder: Path) -> None:
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _escaped(text: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in text)
