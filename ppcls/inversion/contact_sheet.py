"""A PNG that shows some of the dreamed images at a glance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ppcls.inversion.archive import list_images
from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_path

_GAP = 2
_LABEL = 36


def write_contact_sheet(
    folder: str | Path, path: str | Path, ids: int = 12, shots: int = 8, tile_height: int = 128
) -> Path:
    """One row per class, its first images side by side, the class index in front.

    Args:
        folder: with files ``{id}_{digest}.jpg|png``.
        path: of the PNG, written atomically.
        ids: at most so many classes, evenly spread over those that are there.
        shots: at most so many images per class.
        tile_height: pixels; the width follows from the first image.

    Returns:
        ``path``.

    Raises:
        UserError: no images in ``folder``.
    """
    rows: dict[int, list[Path]] = {}
    for file in list_images(folder):
        rows.setdefault(int(file.name.split("_")[0]), []).append(file)
    if not rows:
        raise UserError(f"no dreamed images ({{id}}_{{digest}}.jpg) in {folder}")
    everyone = sorted(rows)
    chosen = [everyone[i] for i in np.unique(np.linspace(0, len(everyone) - 1, min(ids, len(everyone))).astype(int))]
    with Image.open(rows[chosen[0]][0]) as first:
        tile = (max(1, round(tile_height * first.width / first.height)), tile_height)
    columns = min(shots, max(len(rows[target]) for target in chosen))
    size = (_LABEL + columns * (tile[0] + _GAP) + _GAP, len(chosen) * (tile[1] + _GAP) + _GAP)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for row, target in enumerate(chosen):
        top = _GAP + row * (tile[1] + _GAP)
        draw.text((4, top + tile[1] // 2 - 6), str(target), fill="black")
        for column, file in enumerate(rows[target][:columns]):
            with Image.open(file) as image:
                sheet.paste(
                    image.convert("RGB").resize(tile, Image.Resampling.BILINEAR),
                    (_LABEL + column * (tile[0] + _GAP), top),
                )
    path = Path(path)
    with atomic_path(path) as temporary:
        sheet.save(temporary)
    return path
