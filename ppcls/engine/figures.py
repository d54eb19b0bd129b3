"""Pictures of results: contact sheets, rank lists, matrices, curves and bars, written as image files.

Pillow and matplotlib are imported where they are used, so that importing this module costs nothing. Plots are
drawn on matplotlib's Agg canvas without its global state: no display is needed and no window appears.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

    Picture = str | Path | Image.Image | np.ndarray

BACKGROUND, INK = (255, 255, 255), (30, 30, 30)
RIGHT, WRONG, IGNORED, QUERY = (22, 140, 60), (205, 40, 40), (150, 150, 150), (40, 70, 160)
_CELL = (64, 128)
_GAP, _FRAME, _TEXT = 6, 4, 12
# Colours that stay apart for colour-blind readers (Okabe and Ito).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#000000")


def contact_sheet(images: Sequence[Picture], titles: Sequence[str] | None, path: str | Path, columns: int = 10) -> Path:
    """Write ``images`` on a grid of ``columns``, row by row, each with its title below; return ``path``.

    ``images``: paths, PIL images or uint8 arrays [H, W, 3] in RGB, scaled to cells of 64 × 128 pixels.

    Raises:
        UserError: no image, a title too many or too few, ``columns`` < 1, an image that cannot be read.
    """
    if not len(images):
        raise UserError(f"no image for the contact sheet {path}")
    if columns < 1:
        raise UserError(f"columns is {columns}; it must be at least 1")
    if titles is not None and len(titles) != len(images):
        raise UserError(f"{len(images)} images but {len(titles)} titles for the contact sheet {path}")
    rows = -(-len(images) // columns)
    sheet = _Sheet(rows, min(columns, len(images)), left=0, text=_TEXT + 4 if titles else 0)
    for index, image in enumerate(images):
        sheet.paste(image, index // columns, index % columns, title=str(titles[index]) if titles else "")
    return sheet.save(path)


def rank_list(
    queries: Sequence[Picture],
    galleries: Sequence[Sequence[Picture]],
    correct: Sequence[Sequence[bool]] | None,
    path: str | Path,
    *,
    junk: Sequence[Sequence[bool]] | None = None,
    ap: Sequence[float] | None = None,
) -> Path:
    """Write one row per query: its image, then its gallery images nearest first; return ``path``.

    Frames: green = ``correct``, red = wrong (all blue where ``correct`` is None: nobody knows), grey = ``junk`` (same
    id and camera, or pid −1: not counted, so it takes no rank number). ``ap``: average precision of each query as a
    fraction, written below it (NaN: "-").

    Raises:
        UserError: no query, or lists whose lengths disagree, or an image that cannot be read.
    """
    known = correct is not None
    correct = correct if known else [[False] * len(row) for row in galleries]
    junk = junk if junk is not None else [[False] * len(row) for row in galleries]
    if not len(queries) or {len(galleries), len(correct), len(junk)} != {len(queries)}:
        raise UserError(f"the rank list {path} needs one list of images and flags per query, and at least one query")
    width = max(len(row) for row in galleries)
    sheet = _Sheet(len(queries), width + 1, left=_GAP * 2, text=_TEXT + 4)
    for row, (images, hits, ignored) in enumerate(zip(galleries, correct, junk, strict=True)):
        if not len(images) == len(hits) == len(ignored):
            raise UserError(f"query {row} of the rank list {path} has lists of different lengths")
        label = "query" if ap is None else f"AP {ap[row]:.2f}" if np.isfinite(ap[row]) else "AP -"
        sheet.paste(queries[row], row, 0, title=label, frame=QUERY)
        rank = 0
        for column, (image, hit, skip) in enumerate(zip(images, hits, ignored, strict=True), 1):
            rank += not skip
            colour = IGNORED if skip else RIGHT if hit else WRONG if known else QUERY
            sheet.paste(image, row, column, title="junk" if skip else str(rank), frame=colour)
    return sheet.save(path)


class _Sheet:
    """A white page of equal cells; the first column may stand apart by ``left`` pixels."""

    def __init__(self, rows: int, columns: int, *, left: int, text: int) -> None:
        from PIL import Image, ImageDraw, ImageFont

        self._left = left
        self._step = (_CELL[0] + 2 * _FRAME + _GAP, _CELL[1] + 2 * _FRAME + _GAP + text)
        size = (columns * self._step[0] + _GAP + left, rows * self._step[1] + _GAP)
        self._page = Image.new("RGB", size, BACKGROUND)
        self._pen = ImageDraw.Draw(self._page)
        self._font = ImageFont.load_default(_TEXT)

    def paste(
        self,
        image: Picture,
        row: int,
        column: int,
        *,
        title: str = "",
        frame: tuple[int, int, int] | None = None,
    ) -> None:
        from PIL import Image

        x = _GAP + column * self._step[0] + (self._left if column else 0)
        y = _GAP + row * self._step[1]
        outer = (x, y, x + _CELL[0] + 2 * _FRAME - 1, y + _CELL[1] + 2 * _FRAME - 1)
        if frame is not None:
            self._pen.rectangle(outer, fill=frame)
        picture = _load(image).resize(_CELL, Image.Resampling.BILINEAR)
        self._page.paste(picture, (x + _FRAME, y + _FRAME))
        while title and self._pen.textlength(title, font=self._font) > self._step[0] - _GAP:
            title = title[:-1]
        if title:
            centre = x + _FRAME + _CELL[0] / 2
            self._pen.text((centre, outer[3] + 2), title, fill=INK, font=self._font, anchor="mt")

    def save(self, path: str | Path) -> Path:
        with atomic_path(path) as temporary:
            self._page.save(temporary)
        return Path(path)


def _load(image: Picture) -> Image.Image:
    from PIL import Image, UnidentifiedImageError

    if isinstance(image, (str, Path)):
        try:
            with Image.open(image) as stream:
                return stream.convert("RGB")
        except (OSError, UnidentifiedImageError) as error:
            raise UserError(f"cannot read the image {image}: {error}") from error
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise UserError(f"an image array has shape {image.shape}, type {image.dtype}; expected uint8 [H, W, 3]")
        return Image.fromarray(image)
    return image.convert("RGB")


def matrix_heatmap(
    matrix: np.ndarray,
    rows: Sequence[str],
    cols: Sequence[str],
    title: str,
    path: str | Path,
    *,
    xlabel: str = "evaluated on",
    ylabel: str = "after learning",
    value_format: str = "{:.1f}",
) -> Path:
    """Write a coloured table of ``matrix`` [len(rows), len(cols)] with every value in its cell; return ``path``.

    NaN cells stay blank. Values are printed as they are (pass percentages to read percentages).

    Raises:
        UserError: names that do not fit the matrix.
    """
    values = np.asarray(matrix, dtype=np.float64)
    if values.shape != (len(rows), len(cols)) or not values.size:
        raise UserError(f"the matrix of {path} has shape {values.shape} for {len(rows)} rows, {len(cols)} columns")
    figure = _figure(2.6 + 0.9 * len(cols), 1.8 + 0.55 * len(rows))
    axes = figure.add_subplot()
    shown = np.ma.masked_invalid(values)
    picture = axes.imshow(shown, cmap="viridis", aspect="auto")
    low, high = (float(shown.min()), float(shown.max())) if shown.count() else (0.0, 1.0)
    middle = (low + high) / 2
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            colour = "black" if value > middle else "white"
            axes.text(column, row, value_format.format(value), ha="center", va="center", color=colour)
    axes.set_xticks(range(len(cols)), cols, rotation=20 if max(map(len, cols)) > 9 else 0)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axes.set_xticks(np.arange(len(cols) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    figure.colorbar(picture, ax=axes, fraction=0.05)
    return _save(figure, path)


def curves(series: Mapping[str, Any], xlabel: str, ylabel: str, path: str | Path, *, title: str = "") -> Path:
    """Write one line per entry of ``series``: name → (x values, y values); return ``path``.

    Raises:
        UserError: no series, or x and y of different lengths.
    """
    if not series:
        raise UserError(f"no series to draw in {path}")
    figure = _figure(6.4, 4.0)
    axes = figure.add_subplot()
    for index, (name, (x, y)) in enumerate(series.items()):
        if len(x) != len(y):
            raise UserError(f"series {name!r} of {path} has {len(x)} x values and {len(y)} y values")
        style = {"color": _COLOURS[index % len(_COLOURS)], "linestyle": "-" if index < len(_COLOURS) else "--"}
        axes.plot(x, y, label=name, marker="o" if len(x) <= 30 else None, markersize=4, **style)
    axes.set(xlabel=xlabel, ylabel=ylabel, title=title)
    if all(float(value).is_integer() for x, _ in series.values() for value in x):
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(series) > 1:
        axes.legend(frameon=False)
    return _save(figure, path)


def bars(
    methods: Mapping[str, Mapping[str, tuple[float, float]]],
    ylabel: str,
    path: str | Path,
    *,
    title: str = "",
) -> Path:
    """Write a group of bars per method: method → {figure name → (mean, standard deviation)}; return ``path``.

    The standard deviation is drawn as a whisker (0 or NaN: none), the mean written above its bar.

    Raises:
        UserError: no method, or methods with different figures.
    """
    names = list(next(iter(methods.values()), {}))
    if not names or any(list(values) != names for values in methods.values()):
        raise UserError(f"the bars of {path} need the same figures, in the same order, for every method")
    figure = _figure(1.6 + len(methods) * (0.4 + 0.35 * len(names)), 4.2)
    axes = figure.add_subplot()
    width = 0.8 / len(names)
    for index, name in enumerate(names):
        mean, deviation = np.array([methods[method][name] for method in methods], dtype=np.float64).T
        x = np.arange(len(methods)) + (index - (len(names) - 1) / 2) * width
        whiskers = np.where(deviation > 0, deviation, np.nan)
        drawn = axes.bar(
            x, mean, width * 0.94, yerr=whiskers, capsize=3, label=name, color=_COLOURS[index % len(_COLOURS)]
        )
        axes.bar_label(drawn, fmt="%.1f", fontsize=8, padding=2)
    axes.set_xticks(range(len(methods)), methods, rotation=20 if max(map(len, methods)) > 10 else 0)
    axes.set(ylabel=ylabel, title=title)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.margins(y=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    if len(names) > 1:
        axes.legend(frameon=False, ncols=len(names), loc="lower center", bbox_to_anchor=(0.5, 1.0))
        axes.set_title(title, pad=26)
    return _save(figure, path)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(min(width, 24), min(height, 24)), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: str | Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150)
    return Path(path)
