"""The four domains: what people wear there and how the cameras see them.

They carry the names of the public data sets whose folder layout they share, and imitate the *kind* of
difference found between such camera networks; no picture or statistic of those data sets is used.
"""

from __future__ import annotations

from dataclasses import dataclass

from ppcls.data.lite.camera import Network
from ppcls.data.lite.garment import Palette, Swatch
from ppcls.data.lite.person import Wardrobe


@dataclass(frozen=True)
class Domain:
    """A domain's name, its clothing statistics and its cameras."""

    name: str
    wardrobe: Wardrobe
    network: Network


def _bright(weight: float, hue: tuple[float, float]) -> Swatch:
    return Swatch(weight, hue, (0.6, 0.95), (0.55, 0.95))


_ANY = (0.0, 1.0)
_WHITE = Swatch(2.0, _ANY, (0.0, 0.08), (0.82, 0.97))
_GREY = Swatch(1.5, _ANY, (0.0, 0.1), (0.35, 0.65))
_BLACK = Swatch(2.0, _ANY, (0.0, 0.2), (0.06, 0.18))

_SUMMER: Palette = (
    _bright(1.2, (-0.03, 0.03)),
    _bright(0.8, (0.06, 0.1)),
    _bright(0.9, (0.13, 0.17)),
    _bright(1.0, (0.28, 0.4)),
    _bright(0.7, (0.48, 0.54)),
    _bright(1.3, (0.57, 0.66)),
    _bright(0.7, (0.74, 0.8)),
    _bright(0.9, (0.88, 0.95)),
    _WHITE,
    _WHITE,
    _GREY,
    _BLACK,
    _BLACK,
)
_JEANS: Palette = (
    Swatch(3.0, (0.58, 0.64), (0.35, 0.7), (0.25, 0.6)),
    Swatch(1.0, (0.08, 0.13), (0.25, 0.5), (0.5, 0.75)),
    _WHITE,
    _GREY,
    _BLACK,
    _bright(0.8, (0.9, 1.05)),
)
_DARK: Palette = (
    Swatch(1.5, _ANY, (0.0, 0.25), (0.08, 0.2)),
    Swatch(1.5, (0.57, 0.68), (0.35, 0.7), (0.2, 0.5)),
    Swatch(1.5, (0.04, 0.11), (0.3, 0.6), (0.25, 0.55)),
    Swatch(1.5, (0.94, 1.0), (0.45, 0.75), (0.25, 0.55)),
    Swatch(1.2, (0.22, 0.42), (0.25, 0.5), (0.2, 0.45)),
    Swatch(1.2, (0.08, 0.14), (0.3, 0.6), (0.5, 0.75)),
    Swatch(1.5, _ANY, (0.0, 0.1), (0.3, 0.6)),
    Swatch(1.0, _ANY, (0.0, 0.1), (0.7, 0.9)),
)
_SUBTLE: Palette = (
    Swatch(1.5, _ANY, (0.0, 0.2), (0.35, 0.6)),
    Swatch(1.3, (-0.04, 0.12), (0.4, 0.75), (0.4, 0.75)),
    Swatch(1.3, (0.52, 0.7), (0.4, 0.75), (0.4, 0.7)),
    Swatch(1.0, (0.2, 0.42), (0.3, 0.6), (0.35, 0.65)),
    Swatch(1.5, _ANY, (0.0, 0.12), (0.65, 0.9)),
    Swatch(1.0, _ANY, (0.0, 0.3), (0.05, 0.14)),
)
_WINTER: Palette = (
    _BLACK,
    Swatch(2.0, (0.58, 0.66), (0.4, 0.75), (0.18, 0.45)),
    Swatch(1.5, (0.07, 0.12), (0.4, 0.75), (0.4, 0.75)),
    Swatch(1.5, (0.97, 1.03), (0.6, 0.9), (0.4, 0.7)),
    Swatch(1.2, (0.28, 0.45), (0.35, 0.65), (0.25, 0.5)),
    Swatch(0.8, (0.78, 0.9), (0.35, 0.65), (0.3, 0.55)),
    _GREY,
    Swatch(0.8, _ANY, (0.0, 0.1), (0.75, 0.9)),
)
_OFFICE: Palette = (
    Swatch(2.0, _ANY, (0.0, 0.12), (0.7, 0.95)),
    Swatch(1.5, (0.56, 0.66), (0.25, 0.6), (0.5, 0.85)),
    Swatch(1.2, (0.9, 1.02), (0.25, 0.6), (0.55, 0.9)),
    Swatch(1.0, (0.1, 0.16), (0.25, 0.55), (0.65, 0.9)),
    Swatch(1.0, (0.3, 0.5), (0.2, 0.5), (0.45, 0.75)),
    _GREY,
    _BLACK,
)

MARKET = Domain(
    "market",
    Wardrobe(
        upper_colours=_SUMMER,
        lower_colours=_JEANS,
        accents=_SUMMER,
        upper={"tshirt": 6, "shirt": 2, "open_jacket": 1},
        lower={"trousers": 4, "shorts": 4, "skirt": 3},
        upper_patterns={
            "plain": 7,
            "hstripes": 2,
            "vstripes": 1,
            "checks": 1.5,
            "dots": 1,
            "block": 1.5,
            "chest_band": 1,
            "front_print": 2,
            "back_print": 1,
            "halves": 0.5,
        },
        lower_patterns={"plain": 6, "side_stripe": 1, "checks": 0.7, "dots": 0.6, "fade": 1},
        bags={"none": 3, "backpack": 3, "shoulder": 2, "handbag": 2},
        hats={"none": 7, "cap": 2},
    ),
    Network(
        scenes=("campus", "campus", "gate"),
        exposure=(0.68, 1.22),
        hour=(0.8, 1.16),
        warmth=(-0.1, 0.18),
        green=(-0.03, 0.04),
        contrast=(0.95, 1.15),
        saturation=(0.75, 1.1),
        haze=(0.0, 0.06),
        slant=(0.0, 0.15),
        blur=(0.2, 0.6),
        smear=(0.0, 0.9),
        detail=(0.7, 1.0),
        noise=(1.5, 4.0),
        quality=(78, 90),
        elevation=(0.05, 0.25),
        lean=(-0.04, 0.04),
        size=(0.8, 0.95),
        shift=0.04,
        facing=0.45,
        occluders={"bicycle": 2, "passer": 2, "bush": 1},
        occlusion=0.2,
    ),
)

MSMT17 = Domain(
    "msmt17",
    Wardrobe(
        upper_colours=_DARK,
        lower_colours=_DARK,
        accents=_SUBTLE,
        upper={"shirt": 2, "jacket": 4, "open_jacket": 3, "coat": 2.5},
        lower={"trousers": 8, "skirt": 1},
        upper_patterns={
            "plain": 2,
            "knit": 2,
            "quilt": 2.5,
            "camouflage": 1.5,
            "chest_band": 1.5,
            "checks": 1.5,
            "block": 1.2,
            "side_stripe": 1,
            "back_print": 1,
            "fade": 1,
        },
        lower_patterns={"plain": 5, "side_stripe": 1.5, "fade": 1, "camouflage": 0.8, "knit": 0.8},
        bags={"none": 3, "backpack": 3, "shoulder": 2, "handbag": 2},
        hats={"none": 5, "beanie": 2, "hood": 1.5, "cap": 0.7},
    ),
    Network(
        scenes=("street", "hall", "gate", "corridor", "snow"),
        exposure=(0.85, 1.22),
        hour=(0.92, 1.1),
        warmth=(-0.12, 0.11),
        green=(-0.03, 0.05),
        contrast=(0.85, 1.12),
        saturation=(0.75, 1.0),
        haze=(0.0, 0.1),
        slant=(0.02, 0.16),
        blur=(0.2, 0.5),
        smear=(0.0, 1.0),
        detail=(0.8, 1.0),
        noise=(2.0, 5.0),
        quality=(68, 88),
        elevation=(0.1, 0.3),
        lean=(-0.06, 0.06),
        size=(0.8, 0.96),
        shift=0.03,
        facing=0.8,
        occluders={"pole": 1, "passer": 2, "car": 1, "table": 1},
        occlusion=0.08,
    ),
)

DUKE = Domain(
    "duke",
    Wardrobe(
        upper_colours=_WINTER,
        lower_colours=_JEANS,
        accents=_WINTER,
        upper={"coat": 4, "jacket": 4, "open_jacket": 3},
        lower={"trousers": 9, "skirt": 0.5},
        upper_patterns={
            "plain": 3,
            "quilt": 3,
            "block": 2.5,
            "chest_band": 2,
            "checks": 1.5,
            "halves": 1.5,
            "camouflage": 1,
        },
        lower_patterns={"plain": 6, "fade": 2, "side_stripe": 1},
        bags={"none": 2, "backpack": 6, "shoulder": 1, "handbag": 1},
        hats={"none": 4, "beanie": 3, "hood": 2},
    ),
    Network(
        scenes=("street", "snow", "street", "gate"),
        exposure=(0.85, 1.15),
        hour=(0.9, 1.1),
        warmth=(-0.18, -0.02),
        green=(-0.02, 0.03),
        contrast=(0.85, 1.05),
        saturation=(0.75, 1.0),
        haze=(0.04, 0.14),
        slant=(0.0, 0.12),
        blur=(0.2, 0.5),
        smear=(0.0, 0.7),
        detail=(0.8, 1.0),
        noise=(2.0, 5.0),
        quality=(75, 90),
        elevation=(0.0, 0.2),
        lean=(-0.03, 0.03),
        size=(0.78, 0.9),
        shift=0.03,
        facing=0.78,
        occluders={"car": 5, "umbrella": 3, "pole": 1, "passer": 1},
        occlusion=0.22,
    ),
)

CUHK03 = Domain(
    "cuhk03",
    Wardrobe(
        upper_colours=_OFFICE,
        lower_colours=_JEANS,
        accents=_OFFICE,
        upper={"tshirt": 3, "shirt": 5, "open_jacket": 2},
        lower={"trousers": 6, "skirt": 3, "shorts": 1},
        upper_patterns={
            "plain": 4,
            "vstripes": 2,
            "checks": 2,
            "hstripes": 1.5,
            "front_print": 1,
            "fade": 1,
            "dots": 1,
            "block": 1,
        },
        lower_patterns={"plain": 6, "fade": 1, "checks": 1},
        bags={"none": 3, "backpack": 2, "shoulder": 4, "handbag": 2},
        hats={"none": 1},
        hair_weights=(8, 4, 2, 1, 0.3, 0.5, 0.5),
    ),
    Network(
        scenes=("corridor",),
        exposure=(0.78, 1.12),
        hour=(0.92, 1.08),
        warmth=(-0.02, 0.14),
        green=(0.02, 0.12),
        contrast=(0.85, 1.05),
        saturation=(0.75, 1.0),
        haze=(0.02, 0.1),
        slant=(0.0, 0.2),
        blur=(0.5, 1.0),
        smear=(0.0, 1.2),
        detail=(0.65, 0.9),
        noise=(1.0, 3.0),
        quality=(70, 85),
        elevation=(0.55, 0.85),
        lean=(-0.1, 0.1),
        size=(0.92, 1.02),
        shift=0.03,
        facing=0.75,
        occluders={"passer": 2, "table": 1},
        occlusion=0.08,
    ),
)

DOMAINS: dict[str, Domain] = {domain.name: domain for domain in (MARKET, MSMT17, DUKE, CUHK03)}
