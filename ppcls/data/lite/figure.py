"""The drawing of a pedestrian: bodies of revolution with wound textures, seen from any side.

Every part of the body (torso, limbs, head, bags) is a *lathe*: a stack of horizontal discs, each with a centre
and a half width, whose surface carries a texture. Turning the person turns the texture, so a print on the chest
leaves the picture when the person turns their back, and a backpack comes into it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ppcls.data.lite.garment import plain
from ppcls.data.lite.person import Identity


@dataclass(frozen=True)
class Pose:
    """How one picture sees the person.

    ``yaw`` in radians (0 faces the camera, π shows the back), ``stride`` and ``swing`` −1…1 (gait), ``elbow``
    0…1, ``elevation`` 0…1 (how steeply the camera looks down), ``lean`` (sideways shift of the head as a
    fraction of the height). ``left``, ``top`` and ``size`` place the body in the picture: x of the feet, y of
    the crown and height, all as fractions of the picture's height except ``left`` (fraction of its width).
    """

    yaw: float
    stride: float
    swing: float
    elbow: float
    elevation: float
    lean: float
    left: float
    top: float
    size: float


@dataclass(frozen=True)
class Light:
    """Shading of round bodies: brightness added from left to right, and darkening towards the edges."""

    side: float
    edge: float


class Easel:
    """A float32 canvas [H, W, 3] (values 0…1) with a pose's projection from body to picture."""

    def __init__(self, canvas: np.ndarray, pose: Pose, light: Light, height: float) -> None:
        self.canvas, self.pose, self.light = canvas, pose, light
        rows, columns = canvas.shape[:2]
        self.unit = pose.size * rows * height
        # Short people stand with their feet, not their crown, where tall ones do.
        self.crown = pose.top * rows + pose.size * rows * (1.0 - height)
        self.foot = pose.left * columns
        self.widen = 1.0 + 0.35 * pose.elevation

    def row(self, x: float, y: float, half: float) -> tuple[float, float, float]:
        """Body coordinates (heights below the crown, fractions of the body height) → (y, centre, half width) px."""
        steep = self.pose.elevation
        scale = (1.0 + steep * (0.5 - y)) * self.widen
        down = y + steep * 0.5 * (y - y * y)
        return (
            self.crown + down * self.unit,
            self.foot + (x * scale + self.pose.lean * (1.0 - y)) * self.unit,
            max(half * scale * self.unit, 0.3),
        )

    def lathe(self, parts: list[tuple[float, float, float]], texture: np.ndarray, yaw: float) -> None:
        """Paint a body of revolution given as (x, y, half width) from top to bottom, turned by ``yaw``."""
        rows = np.array([self.row(*part) for part in parts])
        height, width = self.canvas.shape[:2]
        top, bottom = max(0, int(rows[0, 0])), min(height, math.ceil(rows[-1, 0]))
        if bottom <= top:
            return
        y = np.arange(top, bottom, dtype=np.float32) + 0.5
        centre = np.interp(y, rows[:, 0], rows[:, 1]).astype(np.float32)[:, None]
        half = np.interp(y, rows[:, 0], rows[:, 2]).astype(np.float32)[:, None]
        left = max(0, int((centre - half).min()) - 1)
        right = min(width, int((centre + half).max()) + 2)
        if right <= left:
            return
        offset = (np.arange(left, right, dtype=np.float32) + 0.5)[None] - centre
        alpha = np.clip(half - np.abs(offset) + 0.5, 0.0, 1.0)[..., None]
        across = np.clip(offset / half, -1.0, 1.0)
        turn = (np.arcsin(across) + yaw) / (2 * math.pi)
        columns = (turn * texture.shape[1]).astype(np.int32) % texture.shape[1]
        share = (y - rows[0, 0]) / max(rows[-1, 0] - rows[0, 0], 1e-3)
        lines = np.clip((share * texture.shape[0]).astype(np.int32), 0, texture.shape[0] - 1)
        shade = 1.0 + self.light.side * across - self.light.edge * across * across
        colour = texture[lines[:, None], columns] * shade[..., None]
        region = self.canvas[top:bottom, left:right]
        region += alpha * (colour - region)


def draw_person(canvas: np.ndarray, person: Identity, pose: Pose, light: Light) -> None:
    """Paint ``person`` on ``canvas`` (float32 [H, W, 3], 0…1) in place."""
    easel = Easel(canvas, pose, light, person.height)
    cosine, sine = math.cos(pose.yaw), math.sin(pose.yaw)
    facing = cosine > 0.0
    _shadow(easel)
    # A limb on the side `s` (−1 or 1) of the body is nearer to the camera when s·sin(yaw) > 0.
    near = 1 if sine > 0 else -1
    _carried(easel, person, -near)
    _arm(easel, person, -near, cosine, sine)
    if facing:
        _behind(easel, person, cosine, sine)
    for side in (-near, near):
        _leg(easel, person, side, cosine, sine)
    _trunk(easel, person, cosine, sine)
    _head(easel, person, cosine, sine)
    if not facing:
        _behind(easel, person, cosine, sine)
    _arm(easel, person, near, cosine, sine)
    _carried(easel, person, near)


def _turned(width: float, depth: float, cosine: float, sine: float) -> float:
    """Half width of an ellipse with half axes ``width`` and ``depth`` seen at the given angle."""
    return math.hypot(width * cosine, depth * sine)


def _shadow(easel: Easel) -> None:
    rows, columns = easel.canvas.shape[:2]
    y, x, _ = easel.row(0.0, 0.975, 0.1)
    v = (np.arange(rows, dtype=np.float32)[:, None] - y) / (0.022 * easel.unit)
    u = (np.arange(columns, dtype=np.float32)[None] - x - 0.05 * easel.unit) / (0.17 * easel.unit)
    easel.canvas *= 1.0 - 0.45 * np.exp(-(v * v + u * u))[..., None]


def _hip(person: Identity) -> float:
    return 0.975 - 0.475 * person.legs


def _trunk(easel: Easel, person: Identity, cosine: float, sine: float) -> None:
    build, hip = person.build, _hip(person)
    shoulder = _turned(0.118 * person.shoulders * (0.6 + 0.4 * build), 0.07 * build, cosine, sine)
    chest = _turned(0.104 * build, 0.075 * build, cosine, sine)
    waist = _turned(0.09 * build, 0.07 * build, cosine, sine)
    seat = _turned(0.1 * build, 0.078 * build, cosine, sine)
    bulk = {"tshirt": 1.0, "shirt": 1.03, "open_jacket": 1.12, "jacket": 1.12, "coat": 1.18}[person.upper_kind]
    neck = plain(person.skin, 2, 2)
    easel.lathe([(0.0, 0.12, 0.035), (0.0, 0.18, 0.042)], neck, 0.0)
    if person.lower_kind == "skirt":
        easel.lathe(
            [(0.0, hip - 0.04, seat), (0.0, hip + 0.1, seat * 1.15), (0.0, hip + 0.2, seat * 1.3)],
            person.skirt if person.upper_kind != "coat" else person.torso,
            easel.pose.yaw,
        )
    rows = [
        (0.0, 0.155, shoulder * 0.45),
        (0.0, 0.178, shoulder * 0.92 * bulk),
        (0.0, 0.22, shoulder * bulk),
        (0.0, 0.3, chest * bulk),
        (0.0, 0.42, waist * bulk),
        (0.0, hip + 0.02, seat * bulk),
    ]
    if person.upper_kind == "coat":
        rows += [(0.0, hip + 0.12, seat * 1.22), (0.0, hip + 0.24, seat * 1.32)]
    easel.lathe(rows, person.torso, easel.pose.yaw)


def _head(easel: Easel, person: Identity, cosine: float, sine: float) -> None:
    wide = _turned(0.05, 0.06, cosine, sine)
    forward = -sine * 0.015
    rows = [(forward, 0.0, 0.012), (forward, 0.012, wide * 0.62), (forward, 0.035, wide * 0.93)]
    rows += [(forward, 0.07, wide), (forward, 0.11, wide * 0.82), (forward, 0.14, wide * 0.42)]
    easel.lathe(rows, person.head, easel.pose.yaw)
    if person.hair_style == "bun" and person.hat == "none":
        bun = forward + sine * 0.055
        easel.lathe([(bun, 0.0, 0.008), (bun, 0.02, 0.028), (bun, 0.05, 0.01)], plain(person.hair, 2, 2), 0.0)
    if person.hat == "cap" and cosine > -0.5:
        brim = forward - sine * 0.05
        easel.lathe(
            [(brim, 0.045, 0.045 * max(abs(cosine), 0.7)), (brim, 0.06, 0.04)],
            plain(tuple(0.7 * c for c in person.hat_colour), 2, 2),
            0.0,
        )


def _behind(easel: Easel, person: Identity, cosine: float, sine: float) -> None:
    """What hangs at the back: long hair and a backpack; painted before the trunk of a person who faces us."""
    if person.hair_style == "long":
        x = sine * 0.035
        wide = _turned(0.06, 0.03, cosine, sine)
        easel.lathe([(x, 0.05, wide), (x, 0.15, wide), (x, 0.25, wide * 0.75)], plain(person.hair, 2, 2), 0.0)
    if person.hat == "hood":
        x = sine * 0.03
        easel.lathe([(x, 0.12, 0.05), (x, 0.19, 0.07)], plain(person.hat_colour, 2, 2), 0.0)
    if person.bag == "backpack":
        size = person.bag_size
        x = sine * (0.085 * person.build + 0.03)
        wide = _turned(0.085 * size, 0.045 * size, cosine, sine)
        pack = plain(person.bag_colour, 24, 48)
        pack[14:21] = person.bag_trim
        pack[13] = pack[21] = tuple(0.5 * c for c in person.bag_colour)
        rows = [(x, 0.19, wide * 0.7), (x, 0.215, wide), (x, 0.19 + 0.22 * size, wide * 1.05)]
        rows.append((x, 0.205 + 0.22 * size, wide * 0.8))
        easel.lathe(rows, pack, 0.0)


def _arm(easel: Easel, person: Identity, side: int, cosine: float, sine: float) -> None:
    pose, thick = easel.pose, 0.026 * (0.5 + 0.5 * person.build)
    if person.upper_kind in ("jacket", "coat", "open_jacket"):
        thick *= 1.25
    root = side * cosine * 0.108 * person.shoulders * (0.55 + 0.45 * person.build)
    root *= 1.06
    swing = -sine * 0.09 * pose.swing * side
    splay = side * cosine * 0.022
    bend = -sine * (0.02 + 0.1 * pose.elbow)
    elbow_y, hand_y = 0.335, 0.47 - 0.07 * pose.elbow
    rows = [
        (root, 0.172, thick * 0.75),
        (root, 0.195, thick * 1.15),
        (root + splay + 0.5 * swing, elbow_y, thick),
        (root + splay + swing + bend, hand_y, thick * 0.75),
        (root + splay + swing + 1.05 * bend, hand_y + 0.035, thick * 0.7),
    ]
    easel.lathe(rows, person.sleeves, pose.yaw + side * math.pi / 2)


def _leg(easel: Easel, person: Identity, side: int, cosine: float, sine: float) -> None:
    pose, hip, build = easel.pose, _hip(person), person.build
    root = side * cosine * 0.046 * build
    step = pose.stride * side
    travel = -sine * 0.13 * step
    lift = 0.03 * max(step, 0.0) * abs(cosine) + 0.02 * max(-step, 0.0)
    knee_y, ankle_y = hip + 0.24 * person.legs, 0.955 - lift
    thigh, calf = 0.052 * (0.4 + 0.6 * build), 0.034 * (0.5 + 0.5 * build)
    knee = root + 0.5 * travel - sine * 0.02 * max(-step, 0.0)
    ankle = root + travel
    toe = -sine * 0.03
    easel.lathe(
        [(ankle + 0.4 * toe, ankle_y - 0.018, 0.026), (ankle + toe, ankle_y + 0.02, 0.028 + 0.02 * abs(sine))],
        plain(person.shoes, 2, 2),
        0.0,
    )
    easel.lathe(
        [(root, hip - 0.02, thigh), (root, hip + 0.06, thigh), (knee, knee_y, 0.5 * (thigh + calf))]
        + [(ankle, ankle_y, calf * 0.85)],
        person.trousers,
        pose.yaw,
    )


def _carried(easel: Easel, person: Identity, side: int) -> None:
    """A bag carried on the given side of the body."""
    if person.bag not in ("shoulder", "handbag") or person.bag_side != side:
        return
    cosine, sine = math.cos(easel.pose.yaw), math.sin(easel.pose.yaw)
    size = person.bag_size
    wide = _turned(0.028, 0.075, cosine, sine) * size
    cloth = plain(person.bag_colour, 12, 12)
    cloth[:3] = person.bag_trim
    if person.bag == "shoulder":
        x, top = side * cosine * 0.12 * person.build, 0.44
    else:
        x, top = side * cosine * 0.15 * person.build - sine * 0.05 * easel.pose.swing * side, 0.5
        easel.lathe([(x, top - 0.05, 0.006), (x, top, wide * 0.5)], plain(person.bag_trim, 2, 2), 0.0)
    easel.lathe([(x, top, wide * 0.85), (x, top + 0.12 * size, wide)], cloth, 0.0)
