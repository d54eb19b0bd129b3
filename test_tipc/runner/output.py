"""The folder of a run: held by one process, and free of what an earlier run left."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ppcls.utils.errors import UserError
from ppcls.utils.logger import get_logger

OUTPUT_ROOT = Path("test_tipc/output")


@contextlib.contextmanager
def fresh_folder(folder: Path, keep: bool) -> Iterator[Path]:
    """Hold ``folder``, empty but for ``earlier-N``, until the block ends.

    Args:
        keep: move the files of an earlier run to ``earlier-N`` (whole data sets: they took days); else remove them.

    Raises:
        UserError: another run holds it, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror or error}") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another run is writing to {folder}; wait for it to end") from None
        _clear(folder, keep)
        yield folder
    finally:
        os.close(handle)


def _clear(folder: Path, keep: bool) -> None:
    old = sorted(path for path in folder.iterdir() if not path.name.startswith("earlier-"))
    if not old:
        return
    if not keep:
        for path in old:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return
    number = 1
    while (folder / f"earlier-{number}").exists():
        number += 1
    aside = folder / f"earlier-{number}"
    aside.mkdir()
    for path in old:
        shutil.move(path, aside / path.name)
    get_logger().info("%s held an earlier run; its files are in %s", folder, aside)
