"""Text files that list images, one a line, each with a label if one is known."""

from __future__ import annotations

from pathlib import Path

from ppcls.utils.errors import UserError

LIST_EXTENSION = ".txt"


def is_image_list(source: str | Path) -> bool:
    """Whether ``source`` names a list, to go by its extension; a folder may be called anything."""
    return Path(source).suffix.lower() == LIST_EXTENSION and not Path(source).is_dir()


def read_image_list(source: str | Path) -> list[tuple[Path, str | None]]:
    """(image, label or None) of every line ``<path>`` or ``<path><TAB><label>``; empty lines are left out.

    Paths that are not absolute start at the folder of the list. Whether the images exist is not looked at.

    Raises:
        UserError: no such file, one that is not UTF-8 text, or one without a line.
    """
    source = Path(source)
    try:
        lines = source.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the image list {source}: {error}") from error
    entries = []
    for line in filter(str.strip, lines):
        name, tab, label = line.partition("\t")
        if not name.strip() or (tab and not label.strip()):
            raise UserError(f"{source}: line {line!r} is not <path> or <path><TAB><label>")
        entries.append((source.parent / name.strip(), label.strip() if tab else None))
    if not entries:
        raise UserError(f"{source} lists no image; write one path a line")
    return entries
