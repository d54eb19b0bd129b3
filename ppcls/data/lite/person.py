"""Who a synthetic pedestrian is: everything that stays the same from camera to camera.

An identity is drawn from the clothing statistics of its domain by a generator that depends on the person's
number alone, so a person looks the same however many other people a data set holds.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

from ppcls.data.lite.garment import COLUMNS, ROWS, Colour, Palette, band, draw_colour, patch, plain, weave

ARM_ROWS = LEG_ROWS = HEAD_ROWS = 48
SMALL_COLUMNS = 64

_SKIN = ((0.94, 0.78, 0.66), (0.87, 0.68, 0.54), (0.76, 0.56, 0.42), (0.55, 0.38, 0.27), (0.36, 0.24, 0.17))
_HAIR = (
    (0.06, 0.05, 0.05),
    (0.14, 0.09, 0.07),
    (0.30, 0.19, 0.11),
    (0.52, 0.37, 0.20),
    (0.80, 0.66, 0.42),
    (0.62, 0.61, 0.60),
    (0.48, 0.16, 0.09),
)


@dataclass(frozen=True)
class Wardrobe:
    """Clothing statistics of a domain: palettes, and how often each garment, pattern, bag and hat is worn."""

    upper_colours: Palette
    lower_colours: Palette
    accents: Palette
    upper: dict[str, float]  # tshirt, shirt, open_jacket, jacket, coat
    lower: dict[str, float]  # trousers, shorts, skirt
    upper_patterns: dict[str, float]
    lower_patterns: dict[str, float]
    bags: dict[str, float]  # none, backpack, shoulder, handbag
    hats: dict[str, float]  # none, cap, beanie, hood
    hair_weights: tuple[float, ...] = (5, 5, 3, 2, 1, 1, 1)
    skin_weights: tuple[float, ...] = (3, 3, 3, 2, 1)


@dataclass(frozen=True)
class Identity:
    """One person. Lengths are fractions of the body height; textures are those of `garment`."""

    height: float
    build: float
    shoulders: float
    legs: float
    skin: Colour
    hair: Colour
    hair_style: str
    hat: str
    hat_colour: Colour
    upper_kind: str
    lower_kind: str
    torso: np.ndarray
    sleeves: np.ndarray
    skirt: np.ndarray
    trousers: np.ndarray
    head: np.ndarray
    shoes: Colour
    bag: str
    bag_colour: Colour
    bag_trim: Colour
    bag_size: float
    bag_side: float


def _pick(weights: dict[str, float], rng: random.Random) -> str:
    return rng.choices(list(weights), weights=list(weights.values()))[0]


def draw_identity(wardrobe: Wardrobe, rng: random.Random) -> Identity:
    """A person dressed after ``wardrobe``; the same generator state gives the same person."""
    skin = rng.choices(_SKIN, weights=wardrobe.skin_weights)[0]
    hair = rng.choices(_HAIR, weights=wardrobe.hair_weights)[0]
    hair_style = rng.choice(("short", "short", "short", "long", "long", "bun", "bald"))
    hat, hat_colour = _pick(wardrobe.hats, rng), draw_colour(wardrobe.accents, rng)
    upper_kind, lower_kind = _pick(wardrobe.upper, rng), _pick(wardrobe.lower, rng)
    torso, sleeves = _upper(wardrobe, upper_kind, skin, rng)
    trousers, skirt, shoes = _lower(wardrobe, lower_kind, skin, rng)
    bag, bag_colour = _pick(wardrobe.bags, rng), draw_colour(wardrobe.accents, rng)
    bag_trim, bag_size, bag_side = draw_colour(wardrobe.accents, rng), rng.uniform(0.8, 1.25), rng.choice((-1, 1))
    torso = _straps(torso, bag, bag_colour, bag_side)
    return Identity(
        height=rng.uniform(0.86, 1.0),
        build=rng.uniform(0.82, 1.28),
        shoulders=rng.uniform(0.92, 1.1),
        legs=rng.uniform(0.94, 1.06),
        skin=skin,
        hair=hair,
        hair_style=hair_style,
        hat=hat,
        hat_colour=hat_colour,
        upper_kind=upper_kind,
        lower_kind=lower_kind,
        torso=torso,
        sleeves=sleeves,
        skirt=torso if upper_kind == "coat" else skirt,
        trousers=trousers,
        head=_head(skin, hair, hair_style, hat, hat_colour),
        shoes=shoes,
        bag=bag,
        bag_colour=bag_colour,
        bag_trim=bag_trim,
        bag_size=bag_size,
        bag_side=bag_side,
    )


def _upper(wardrobe: Wardrobe, kind: str, skin: Colour, rng: random.Random) -> tuple[np.ndarray, np.ndarray]:
    """Textures of the torso and of an arm from the shoulder to the finger tips."""
    main, second = draw_colour(wardrobe.upper_colours, rng), draw_colour(wardrobe.accents, rng)
    pattern = _pick(wardrobe.upper_patterns, rng)
    torso = weave(pattern, main, second, rng)
    inner = draw_colour(wardrobe.upper_colours, rng)
    opening = rng.uniform(0.06, 0.12)
    if kind == "open_jacket":
        patch(torso, 0.0, opening, 0.0, 1.0, inner)
    elif kind in ("jacket", "coat") and rng.random() < 0.5:
        patch(torso, 0.0, 0.012, 0.0, 1.0, second)
    neck = rng.uniform(0.03, 0.08)
    patch(torso, 0.0, 0.07, 0.0, neck, skin)
    sleeve = second if rng.random() < 0.18 else main
    arm = plain(sleeve, ARM_ROWS, SMALL_COLUMNS)
    if pattern in ("hstripes", "checks", "quilt", "knit", "camouflage", "dots"):
        arm = torso[:: ROWS // ARM_ROWS, : SMALL_COLUMNS * 2 : 2].copy()
        arm = np.roll(arm, SMALL_COLUMNS // 2, axis=1)
        if kind == "open_jacket":
            arm = torso[:: ROWS // ARM_ROWS, 40 : 40 + SMALL_COLUMNS].copy()
    length = rng.uniform(0.3, 0.5) if kind == "tshirt" else rng.uniform(0.84, 0.9)
    band(arm, length, 1.0, skin)
    return torso, arm


def _lower(wardrobe: Wardrobe, kind: str, skin: Colour, rng: random.Random) -> tuple[np.ndarray, np.ndarray, Colour]:
    """Textures of a leg from hip to ankle and of a skirt, and the colour of the shoes."""
    main, second = draw_colour(wardrobe.lower_colours, rng), draw_colour(wardrobe.accents, rng)
    cloth = weave(_pick(wardrobe.lower_patterns, rng), main, second, rng)
    leg = cloth[:: ROWS // LEG_ROWS, :: COLUMNS // SMALL_COLUMNS].copy()
    length = {"trousers": 1.0, "shorts": rng.uniform(0.42, 0.56), "skirt": 0.1}[kind]
    hose = skin if rng.random() < 0.7 else (0.08, 0.08, 0.1)
    if length < 1.0:
        band(leg, length, 1.0, hose)
    if rng.random() < 0.3:
        band(leg, 0.88, 1.0, draw_colour(wardrobe.accents, rng))  # boots, socks or turned-up hems
    return leg, cloth, draw_colour(wardrobe.accents, rng)


def _straps(torso: np.ndarray, bag: str, colour: Colour, side: float) -> np.ndarray:
    """The straps of a backpack or a shoulder bag, painted on a copy of the torso."""
    torso = torso.copy()
    if bag == "backpack":
        for azimuth in (0.12, 0.88):
            patch(torso, azimuth, 0.022, 0.0, 0.6, colour)
    elif bag == "shoulder":
        for row in range(ROWS):
            across = 0.2 * (1.0 - 2.0 * row / ROWS) * -side
            share = row / ROWS
            patch(torso, across, 0.02, share, share + 1.01 / ROWS, colour)
            patch(torso, 0.5 - across, 0.02, share, share + 1.01 / ROWS, colour)
    return torso


def _head(skin: Colour, hair: Colour, style: str, hat: str, hat_colour: Colour) -> np.ndarray:
    """Texture of the head from crown to chin: face in front, hair behind, the hat over both."""
    head = plain(skin, HEAD_ROWS, SMALL_COLUMNS)
    if style != "bald":
        band(head, 0.0, 0.3, hair)
        patch(head, 0.5, 0.27, 0.0, 0.9 if style == "short" else 1.0, hair)
        if style == "long":
            patch(head, 0.5, 0.34, 0.0, 1.0, hair)
    patch(head, 0.0, 0.13, 0.45, 0.55, tuple(0.55 * c for c in skin))
    if hat == "cap":
        band(head, 0.0, 0.36, hat_colour)
        patch(head, 0.0, 0.14, 0.36, 0.44, tuple(0.6 * c for c in hat_colour))
    elif hat == "beanie":
        band(head, 0.0, 0.4, hat_colour)
    elif hat == "hood":
        band(head, 0.0, 0.25, hat_colour)
        patch(head, 0.5, 0.36, 0.0, 1.0, hat_colour)
    return head
