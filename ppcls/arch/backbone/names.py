"""Backbone names as the field writes them → depth, variant and widths of the one ResNet family."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ppcls.utils.errors import UserError

_NAME = re.compile(
    r"(?P<before>(?:(?:se|ibn_[ab])_)*)(?P<kind>resnet|resnext)(?P<depth>\d+)"
    r"(?:_(?P<groups>\d+)x(?P<width>\d+)d)?(?P<after>(?:_(?:se|ibn_[ab]))*)"
)


@dataclass(frozen=True)
class BackboneName:
    """What a name says: ``variant`` is a key of ``VARIANTS``; ``groups`` × ``width_per_group`` is ResNeXt's."""

    depth: int
    variant: str
    groups: int = 1
    width_per_group: int = 64


def parse_backbone(name: str) -> BackboneName:
    """``resnet50``, ``resnet50_ibn_a``, ``ibn_a_resnet50``, ``se_ibn_b_resnext101_32x8d``, ….

    Raises:
        UserError: not such a name; ResNeXt without its widths, or ResNet with some.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise UserError(f"backbone '{name}' is unknown; write for example resnet50, ibn_a_resnet50 or se_resnet101")
    words = re.findall(r"se|ibn_[ab]", f"{match['before']} {match['after']}")
    if len(words) != len(set(words)) or {"ibn_a", "ibn_b"} <= set(words):
        raise UserError(f"backbone '{name}' names a part twice; choose one of ibn_a and ibn_b, and se at most once")
    if (match["kind"] == "resnext") != (match["groups"] is not None):
        raise UserError(
            f"backbone '{name}': ResNeXt needs groups and width, as in resnext101_32x8d, and ResNet has none"
        )
    variant = "_".join(sorted(words, reverse=True)) or "plain"
    depth = int(match["depth"])
    if match["groups"] is None:
        return BackboneName(depth, variant)
    return BackboneName(depth, variant, int(match["groups"]), int(match["width"]))
