"""What stands behind and before the pedestrians: a background per camera, and things that hide a part of them.

Backgrounds are drawn once per camera as a strip wider than a picture; each picture looks at its own part of it.
"""

from __future__ import annotations

import random

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

STRIP = 4  # width of a camera's background strip, in picture widths

Ink = tuple[int, int, int]


def _ink(rng: random.Random, low: int, high: int, spread: int = 12) -> Ink:
    """A near-grey colour between two brightnesses."""
    level = rng.randint(low, high)
    return tuple(max(0, min(255, level + rng.randint(-spread, spread))) for _ in range(3))


def _shift(ink: Ink, by: int) -> Ink:
    return tuple(max(0, min(255, c + by)) for c in ink)


def draw_strip(kind: str, width: int, height: int, rng: random.Random) -> np.ndarray:
    """The background strip [height, STRIP·width, 3] uint8 of a camera; ``kind`` is one of `SCENES`."""
    size = (STRIP * width, height)
    image = Image.new("RGB", size)
    draw = ImageDraw.Draw(image)
    SCENES[kind](draw, size, rng)
    image = image.filter(ImageFilter.GaussianBlur(height / 160))
    strip = np.asarray(image, dtype=np.float32)
    noise = np.random.Generator(np.random.PCG64(rng.getrandbits(64))).normal(0.0, 5.0, (height, size[0], 1))
    return np.clip(strip + noise, 0, 255).astype(np.uint8)


def _tiles(draw: ImageDraw.ImageDraw, size: tuple[int, int], top: int, ink: Ink, pitch: float) -> None:
    """A tiled floor whose rows crowd together towards the horizon at ``top``."""
    width, height = size
    draw.rectangle((0, top, width, height), fill=ink)
    line, weight = _shift(ink, -22), max(1, height // 150)
    depth = 1.0
    while depth > 0.05:
        y = top + (height - top) * depth
        draw.line((0, y, width, y), fill=line, width=weight)
        depth *= pitch
    for x in range(-width // 2, width * 3 // 2, max(6, height // 5)):
        draw.line((x, height, width // 2 + (x - width // 2) * 0.55, top), fill=line, width=weight)


def _facade(
    draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], ink: Ink, rng: random.Random, glass: Ink
) -> None:
    """A wall with a row of windows or doors."""
    left, top, right, bottom = box
    draw.rectangle(box, fill=ink)
    step = max(8, (bottom - top) * rng.uniform(0.5, 1.1))
    x = left + step * rng.random()
    while x < right:
        draw.rectangle((x, top + 0.15 * (bottom - top), x + 0.55 * step, bottom * 0.92), fill=glass)
        x += step


def _campus(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: random.Random) -> None:
    """Sunny square of light tiles with lawns, hedges and tents."""
    width, height = size
    horizon = int(height * rng.uniform(0.12, 0.3))
    draw.rectangle((0, 0, width, horizon), fill=(96, 142, 74))
    for _ in range(28):
        x, r = rng.uniform(0, width), height * rng.uniform(0.06, 0.16)
        green = (rng.randint(50, 110), rng.randint(110, 165), rng.randint(40, 80))
        draw.ellipse((x - r, horizon - 1.5 * r, x + r, horizon + 0.4 * r), fill=green)
    _tiles(draw, size, horizon, (205 + rng.randint(-18, 14), 196, 172 + rng.randint(-14, 10)), 0.8)
    for _ in range(rng.randint(3, 6)):
        x, y = rng.uniform(0, width), rng.uniform(horizon, height * 0.75)
        w, h = height * rng.uniform(0.2, 0.6), height * rng.uniform(0.05, 0.14)
        lawn = (rng.randint(80, 125), rng.randint(140, 175), rng.randint(60, 90))
        draw.polygon([(x - w, y + h), (x - 0.7 * w, y), (x + w, y), (x + 1.2 * w, y + h)], fill=lawn)


def _street(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: random.Random) -> None:
    """Grey asphalt, kerb, house fronts and parked cars."""
    width, height = size
    horizon = int(height * rng.uniform(0.25, 0.45))
    _facade(draw, (0, 0, width, horizon), _ink(rng, 95, 150), rng, _ink(rng, 45, 80))
    asphalt = _ink(rng, 95, 130, 5)
    draw.rectangle((0, horizon, width, height), fill=asphalt)
    kerb = int(horizon + (height - horizon) * rng.uniform(0.1, 0.4))
    draw.rectangle((0, horizon, width, kerb), fill=_shift(asphalt, 35))
    draw.line((0, kerb, width, kerb), fill=_shift(asphalt, 70), width=max(1, height // 60))
    for _ in range(rng.randint(3, 6)):
        _car(draw, rng.uniform(0, width), horizon + height * 0.12, height * rng.uniform(0.3, 0.45), rng)
    for x in range(0, width, max(12, height // 2)):
        draw.rectangle((x, height * 0.86, x + height * 0.22, height * 0.88), fill=_shift(asphalt, 80))


def _snow(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: random.Random) -> None:
    """Winter park: pale ground, bare trunks, a path."""
    width, height = size
    horizon = int(height * rng.uniform(0.15, 0.35))
    draw.rectangle((0, 0, width, horizon), fill=_ink(rng, 135, 165, 6))
    draw.rectangle((0, horizon, width, height), fill=(208, 212, 220))
    for _ in range(16):
        x, w = rng.uniform(0, width), height * rng.uniform(0.01, 0.035)
        foot = horizon + height * rng.uniform(0.0, 0.25)
        draw.rectangle((x - w, 0, x + w, foot), fill=_ink(rng, 55, 85, 8))
    path = height * rng.uniform(0.55, 0.75)
    draw.polygon([(0, path), (width, path * 0.94), (width, height), (0, height)], fill=_ink(rng, 150, 178, 6))


def _corridor(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: random.Random) -> None:
    """Indoor corridor seen from above: shiny floor, skirting board, doors, lamps mirrored in the floor."""
    width, height = size
    horizon = int(height * rng.uniform(0.05, 0.2))
    wall, floor = _ink(rng, 150, 190, 8), _ink(rng, 120, 165, 8)
    draw.rectangle((0, 0, width, horizon), fill=wall)
    _tiles(draw, size, horizon, floor, 0.72)
    draw.rectangle((0, horizon, width, horizon + height // 24), fill=_shift(wall, -60))
    for _ in range(6):
        x, w = rng.uniform(0, width), height * rng.uniform(0.06, 0.16)
        shine = _shift(floor, rng.randint(15, 45))
        draw.polygon([(x, horizon), (x + w, horizon), (x + 1.6 * w, height), (x - 0.4 * w, height)], fill=shine)


def _hall(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: random.Random) -> None:
    """Canteen or station hall: dark pillars, furniture, a warm floor."""
    width, height = size
    horizon = int(height * rng.uniform(0.2, 0.4))
    draw.rectangle((0, 0, width, horizon), fill=_ink(rng, 60, 105, 10))
    floor = (rng.randint(120, 165), rng.randint(100, 135), rng.randint(70, 105))
    _tiles(draw, size, horizon, floor, 0.76)
    for _ in range(rng.randint(5, 8)):
        x, w = rng.uniform(0, width), height * rng.uniform(0.05, 0.13)
        draw.rectangle((x - w, 0, x + w, height * rng.uniform(0.35, 0.7)), fill=_ink(rng, 50, 150, 10))
    for _ in range(rng.randint(4, 7)):
        x, y, w = rng.uniform(0, width), height * rng.uniform(0.35, 0.65), height * rng.uniform(0.1, 0.25)
        wood = (rng.randint(90, 150), rng.randint(55, 95), rng.randint(30, 60))
        draw.rectangle((x - w, y, x + w, y + 0.25 * w), fill=wood)
        draw.line((x - w, y, x - w, y + w), fill=wood, width=max(1, height // 80))


def _gate(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: random.Random) -> None:
    """Building entrance: brick wall, glass front, shaded pavement."""
    width, height = size
    horizon = int(height * rng.uniform(0.4, 0.6))
    brick = (rng.randint(110, 150), rng.randint(70, 95), rng.randint(60, 80))
    _facade(draw, (0, 0, width, horizon), brick, rng, (72, 92, 108))
    for y in range(0, horizon, max(3, height // 28)):
        draw.line((0, y, width, y), fill=_shift(brick, -18), width=1)
    _tiles(draw, size, horizon, _ink(rng, 105, 150, 6), 0.7)


def _car(draw: ImageDraw.ImageDraw, x: float, y: float, length: float, rng: random.Random) -> None:
    """A car standing with its wheels at height ``y``."""
    paint = rng.choice(((180, 182, 186), (40, 42, 48), (120, 30, 32), (36, 54, 96), (222, 222, 220)))
    tall = 0.36 * length
    draw.polygon(
        [(x - 0.3 * length, y - 0.55 * tall), (x - 0.18 * length, y - tall)]
        + [(x + 0.2 * length, y - tall), (x + 0.33 * length, y - 0.55 * tall)],
        fill=(48, 56, 66),
    )
    draw.rectangle((x - 0.5 * length, y - 0.6 * tall, x + 0.5 * length, y - 0.12 * tall), fill=paint)
    for wheel in (-0.3, 0.3):
        r = 0.11 * length
        draw.ellipse((x + wheel * length - r, y - 1.6 * r, x + wheel * length + r, y + 0.4 * r), fill=(25, 25, 27))


SCENES = {
    "campus": _campus,
    "street": _street,
    "snow": _snow,
    "corridor": _corridor,
    "hall": _hall,
    "gate": _gate,
}


def draw_occluder(kind: str, image: Image.Image, rng: random.Random) -> None:
    """Paint one of `OCCLUDERS` over ``image`` in place."""
    OCCLUDERS[kind](ImageDraw.Draw(image), image.size, rng)


def _hide_car(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: random.Random) -> None:
    width, height = size
    _car(draw, width * rng.uniform(-0.1, 1.1), height * rng.uniform(1.0, 1.12), height * 0.9, rng)


def _hide_umbrella(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: random.Random) -> None:
    width, height = size
    x, y, r = width * rng.uniform(0.35, 0.65), height * rng.uniform(0.1, 0.17), height * 0.24
    ink = tuple(rng.randint(20, 170) for _ in range(3))
    draw.line((x, y - 0.1 * r, x, y + r), fill=(60, 60, 64), width=max(1, height // 90))
    draw.pieslice((x - r, y - 0.6 * r, x + r, y + 0.6 * r), 180, 360, fill=ink)
    for rib in (-0.5, 0.0, 0.5):
        draw.line((x, y - 0.6 * r, x + rib * r, y), fill=_shift(ink, -25), width=1)


def _hide_pole(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: random.Random) -> None:
    width, height = size
    x, w = width * rng.uniform(0.15, 0.85), width * rng.uniform(0.03, 0.07)
    draw.rectangle((x - w, 0, x + w, height), fill=_ink(rng, 60, 150, 6))


def _hide_bush(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: random.Random) -> None:
    width, height = size
    side = rng.choice((0.0, 1.0))
    for _ in range(14):
        x, y = width * (side + rng.uniform(-0.35, 0.35)), height * rng.uniform(0.72, 1.0)
        r = height * rng.uniform(0.04, 0.09)
        green = (rng.randint(40, 90), rng.randint(95, 140), rng.randint(30, 60))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=green)


def _hide_bicycle(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: random.Random) -> None:
    width, height = size
    x, y, r = width * rng.uniform(0.0, 1.0), height * 0.84, height * 0.12
    ink, weight = _ink(rng, 20, 120, 30), max(2, height // 70)
    for wheel in (-0.15, 0.15):
        centre = x + wheel * height
        draw.ellipse((centre - r, y - r, centre + r, y + r), outline=(35, 35, 38), width=weight)
    saddle, bar = (x - 0.08 * height, y - 0.17 * height), (x + 0.1 * height, y - 0.2 * height)
    draw.line([saddle, (x, y), (x + 0.15 * height, y), bar], fill=ink, width=weight)
    draw.line([saddle, (bar[0], saddle[1])], fill=ink, width=weight)


def _hide_passer(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: random.Random) -> None:
    """Another pedestrian who walks through the picture's edge, nearer to the camera."""
    width, height = size
    x, w = width * rng.choice((rng.uniform(-0.12, 0.05), rng.uniform(0.95, 1.12))), height * 0.1
    upper = tuple(rng.randint(25, 190) for _ in range(3))
    draw.rectangle((x - 0.6 * w, height * 0.55, x + 0.6 * w, height), fill=_ink(rng, 25, 95, 8))
    draw.rounded_rectangle((x - w, height * 0.2, x + w, height * 0.6), radius=int(0.6 * w), fill=upper)
    draw.ellipse((x - 0.5 * w, height * 0.06, x + 0.5 * w, height * 0.2), fill=_ink(rng, 40, 150, 14))


def _hide_table(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: random.Random) -> None:
    width, height = size
    y = height * rng.uniform(0.72, 0.86)
    left = width * rng.choice((-0.2, 0.35))
    wood = (rng.randint(100, 150), rng.randint(65, 100), rng.randint(40, 65))
    draw.rectangle((left, y, left + 0.85 * width, y + 0.05 * height), fill=wood)
    draw.rectangle((left + 0.08 * width, y, left + 0.16 * width, height), fill=_shift(wood, -30))


OCCLUDERS = {
    "car": _hide_car,
    "umbrella": _hide_umbrella,
    "pole": _hide_pole,
    "bush": _hide_bush,
    "bicycle": _hide_bicycle,
    "passer": _hide_passer,
    "table": _hide_table,
}
