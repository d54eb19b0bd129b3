"""Cloth for the synthetic pedestrians: colours drawn from palettes, and textures wound round the body.

A texture is a float32 array [rows, columns, 3] with values in 0…1. Rows run from the top of the garment to its
hem; columns run once round the body, column 0 being the middle of the front and the middle column the spine.
"""

from __future__ import annotations

import colorsys
import random
from dataclasses import dataclass

import numpy as np

ROWS, COLUMNS = 96, 192

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Swatch:
    """A cluster of cloth colours: ranges of hue, saturation and value (each 0…1) and how often it is worn."""

    weight: float
    hue: tuple[float, float]
    saturation: tuple[float, float]
    value: tuple[float, float]


Palette = tuple[Swatch, ...]


def draw_colour(palette: Palette, rng: random.Random) -> Colour:
    """One RGB colour (0…1) of the palette; hues may exceed 1 in a swatch, they wrap."""
    swatch = rng.choices(palette, weights=[s.weight for s in palette])[0]
    hue = rng.uniform(*swatch.hue) % 1.0
    return colorsys.hsv_to_rgb(hue, rng.uniform(*swatch.saturation), rng.uniform(*swatch.value))


def plain(colour: Colour, rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """A texture [rows, columns, 3] of one colour."""
    return np.broadcast_to(np.asarray(colour, dtype=np.float32), (rows, columns, 3)).copy()


def band(texture: np.ndarray, top: float, bottom: float, colour: Colour) -> None:
    """Paint the rows between two heights (fractions of the garment) in place."""
    rows = texture.shape[0]
    texture[round(top * rows) : round(bottom * rows)] = colour


def patch(texture: np.ndarray, azimuth: float, half_width: float, top: float, bottom: float, colour: Colour) -> None:
    """Paint in place a rectangle centred at ``azimuth`` (turns, 0 front, 0.5 spine), half width in turns."""
    rows, columns = texture.shape[:2]
    distance = np.abs((np.arange(columns) / columns - azimuth + 0.5) % 1.0 - 0.5)
    inside = np.flatnonzero(distance <= half_width)
    texture[round(top * rows) : round(bottom * rows), inside] = colour


def _blobs(rng: random.Random, cells: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """Smooth noise 0…1 of the given shape, bilinear between ``cells`` random knots, periodic round the body."""
    knots = np.array([[rng.random() for _ in range(cells[1])] for _ in range(cells[0])], dtype=np.float32)
    knots = np.concatenate([knots, knots[:, :1]], axis=1)
    y = np.linspace(0, cells[0] - 1.001, shape[0])
    x = np.linspace(0, cells[1] - 0.001, shape[1])
    top, left = y.astype(int), x.astype(int)
    fy, fx = (y - top)[:, None], (x - left)[None]
    upper = knots[top][:, left] * (1 - fx) + knots[top][:, left + 1] * fx
    lower = knots[top + 1][:, left] * (1 - fx) + knots[top + 1][:, left + 1] * fx
    return upper * (1 - fy) + lower * fy


def weave(pattern: str, main: Colour, second: Colour, rng: random.Random) -> np.ndarray:
    """A garment's texture [ROWS, COLUMNS, 3].

    ``pattern`` is one of `PATTERNS`; ``second`` is the colour of the stripes, dots, print and so on. The random
    generator sets their scale and place, which thereby belong to the garment.
    """
    texture = plain(main)
    y = np.arange(ROWS)[:, None]
    x = np.arange(COLUMNS)[None]
    colour = np.asarray(second, dtype=np.float32)
    if pattern == "hstripes":
        count, share = rng.randint(3, 6), rng.uniform(0.3, 0.6)
        texture[np.broadcast_to((y * count / ROWS) % 1.0 < share, (ROWS, COLUMNS))] = colour
    elif pattern == "vstripes":
        count, share = rng.randint(8, 14), rng.uniform(0.3, 0.55)
        texture[np.broadcast_to((x * count / COLUMNS) % 1.0 < share, (ROWS, COLUMNS))] = colour
    elif pattern == "checks":
        count = rng.randint(4, 6)
        rows, columns = (y * count / ROWS) % 1.0 < 0.45, (x * 3 * count / COLUMNS) % 1.0 < 0.45
        weight = (rows.astype(np.float32) + columns)[..., None] * 0.5
        texture += weight * (colour - texture)
    elif pattern == "dots":
        count = rng.randint(4, 6)
        v, u = (y * count / ROWS) % 1.0 - 0.5, (x * 2.5 * count / COLUMNS) % 1.0 - 0.5
        texture[v * v + u * u < rng.uniform(0.06, 0.12)] = colour
    elif pattern == "camouflage":
        noise = _blobs(rng, (7, 14), (ROWS, COLUMNS))
        texture[noise > 0.58] = colour
        texture[noise < 0.3] *= 0.55
    elif pattern == "block":
        edge = rng.uniform(0.3, 0.62)
        band(texture, edge, 1.0, second)
    elif pattern == "chest_band":
        top = rng.uniform(0.18, 0.42)
        band(texture, top, top + rng.uniform(0.13, 0.25), second)
    elif pattern == "front_print":
        _print(texture, 0.0, second, rng)
    elif pattern == "back_print":
        _print(texture, 0.5, second, rng)
        patch(texture, 0.04, 0.02, 0.22, 0.34, second)
    elif pattern == "halves":
        patch(texture, 0.25, 0.25, 0.0, 1.0, second)
    elif pattern == "side_stripe":
        for azimuth in (0.25, 0.75):
            patch(texture, azimuth, rng.uniform(0.03, 0.05), 0.0, 1.0, second)
    elif pattern == "fade":
        ramp = np.linspace(0.0, 1.0, ROWS, dtype=np.float32)[:, None, None]
        texture += ramp * (colour - texture)
    elif pattern == "knit":
        count = rng.randint(14, 20)
        ribs = 0.5 + 0.5 * np.sin(2 * np.pi * count * y / ROWS) * np.ones_like(x)
        texture += (0.7 * ribs[..., None] * (colour - texture)).astype(np.float32)
    elif pattern == "quilt":
        count = rng.randint(5, 8)
        seams = np.broadcast_to((y * count / ROWS) % 1.0 < 0.22, (ROWS, COLUMNS))
        texture[seams] *= 0.5
    elif pattern != "plain":
        raise ValueError(f"no garment pattern {pattern!r}; patterns are {', '.join(PATTERNS)}")
    return texture


def _print(texture: np.ndarray, azimuth: float, colour: Colour, rng: random.Random) -> None:
    """A picture or lettering at ``azimuth``: one block, two bars, or a frame."""
    top, height, half = rng.uniform(0.15, 0.3), rng.uniform(0.2, 0.4), rng.uniform(0.07, 0.13)
    kind = rng.choice(("block", "bars", "frame"))
    if kind == "bars":
        for bar in (0.0, 0.62):
            start = top + bar * height
            patch(texture, azimuth, half, start, start + 0.36 * height, colour)
    else:
        inner = texture[0, 0].copy()
        patch(texture, azimuth, half, top, top + height, colour)
        if kind == "frame":
            patch(texture, azimuth, half * 0.5, top + 0.25 * height, top + 0.75 * height, tuple(inner))


PATTERNS = (
    "plain",
    "hstripes",
    "vstripes",
    "checks",
    "dots",
    "camouflage",
    "block",
    "chest_band",
    "front_print",
    "back_print",
    "halves",
    "side_stripe",
    "fade",
    "knit",
    "quilt",
)
