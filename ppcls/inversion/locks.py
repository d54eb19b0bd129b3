"""Keeps two processes from working on the same part of a folder."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path

from ppcls.utils.errors import UserError
from ppcls.utils.locks import folder_lock

_NAME = re.compile(r"\.lock-(\d+)of(\d+)$")


class ShardLock:
    """The right to work on shard ``shard`` of ``num_shards`` in ``folder``; the system frees it when a process dies.

    Raises:
        UserError: a living process holds it, or works there with another number of shards.
    """

    def __init__(self, folder: Path, shard: int, num_shards: int):
        self._folder = folder
        self._path = folder / f".lock-{shard}of{num_shards}"
        with folder_lock(folder):
            for other in folder.glob(".lock-*of*"):
                match = _NAME.match(other.name)
                if match and int(match.group(2)) != num_shards:
                    _release(_acquire(other, folder), other)
            self._handle = _acquire(self._path, folder)

    def release(self) -> None:
        """Give the right back."""
        if self._handle is not None:
            with folder_lock(self._folder):
                _release(self._handle, self._path)
            self._handle = None


def _acquire(path, folder):
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise UserError(
            f"another process is dreaming into {folder} ({path.name[6:]}); wait for it, "
            "or give each process its own --shard of the same --num-shards"
        ) from None
    return handle


def _release(handle, path):
    path.unlink(missing_ok=True)
    os.close(handle)
