"""Lite data as one file: a tar archive whose bytes depend on the pictures alone."""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from pathlib import Path

from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_path
from ppcls.utils.logger import get_logger


def pack_lite_data(path: str | Path, top: str, folders: Mapping[str, Path]) -> Path:
    """Write ``top/<domain>/…`` of every folder into the tar file ``path``, whole or not at all.

    Args:
        path: the archive, not compressed (JPEG files do not shrink).
        top: folder that unpacking makes, such as ``lite_data``.
        folders: domain → folder, as :func:`~ppcls.data.lite.make_lite_data` returns them.

    Equal pictures give equal bytes: entries are sorted, and carry neither times, owners nor this machine's permissions.

    Raises:
        UserError: ``path`` is a folder or lies inside the data, or cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"--tar {path} is a folder; name the file to write, such as data/lite_data.tar")
    for folder in folders.values():
        if folder.resolve() in path.resolve().parents:
            raise UserError(f"--tar {path} lies in {folder}, which it packs; put it beside the data")
    with atomic_path(path) as temporary, tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as archive:
        archive.addfile(_entry(top, is_folder=True))
        for domain, folder in sorted(folders.items()):
            archive.addfile(_entry(f"{top}/{domain}", is_folder=True))
            for item in sorted(folder.rglob("*")):
                name = f"{top}/{domain}/{item.relative_to(folder).as_posix()}"
                if item.is_dir():
                    archive.addfile(_entry(name, is_folder=True))
                else:
                    with item.open("rb") as stream:
                        archive.addfile(_entry(name, size=item.stat().st_size), stream)
    get_logger().info("%s: %s, %.1f MB", path, ", ".join(sorted(folders)), path.stat().st_size / 1e6)
    return path


def _entry(name: str, is_folder: bool = False, size: int = 0) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = tarfile.DIRTYPE if is_folder else tarfile.REGTYPE
    entry.mode = 0o755 if is_folder else 0o644
    entry.size = size
    return entry
