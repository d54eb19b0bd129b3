"""One picture: a person seen by a camera at a moment; every random choice is keyed, none depends on the order.

The keys are ``(seed, "lite", domain, …)`` with the person's number, the camera and the picture's number, so any
single picture can be drawn again alone, and asking for more people or cameras changes none of the earlier ones.
"""

from __future__ import annotations

import math
import random
from dataclasses import replace
from functools import cached_property

import numpy as np
from PIL import Image

from ppcls.data.lite.camera import Camera, draw_camera, draw_weather, encode, expose, shrink
from ppcls.data.lite.domain import Domain
from ppcls.data.lite.figure import Light, Pose, draw_person
from ppcls.data.lite.person import Identity, draw_identity
from ppcls.data.lite.scene import STRIP, draw_occluder, draw_strip
from ppcls.utils.seeding import numpy_rng, python_rng

SUPERSAMPLING = 2


class Studio:
    """Draws the pictures of one domain.

    Args:
        domain: what is drawn.
        cams: how many cameras there are.
        height, width: size of the pictures in pixels.
        seed: of everything.
    """

    def __init__(self, domain: Domain, cams: int, height: int, width: int, seed: int) -> None:
        self.domain, self.cams, self.height, self.width, self.seed = domain, cams, height, width, seed

    def _keys(self, *keys: int | str) -> tuple[int | str, ...]:
        return ("lite", self.domain.name, *keys)

    @cached_property
    def cameras(self) -> list[Camera]:
        """The cameras 1…cams, in order."""
        network = self.domain.network
        return [
            draw_camera(network, number, python_rng(self.seed, *self._keys("camera", number)))
            for number in range(1, self.cams + 1)
        ]

    @cached_property
    def _strips(self) -> list[np.ndarray]:
        size = (SUPERSAMPLING * self.width, SUPERSAMPLING * self.height)
        return [
            draw_strip(camera.scene, *size, python_rng(self.seed, *self._keys("scene", number)))
            for number, camera in enumerate(self.cameras, start=1)
        ]

    def person(self, role: str, number: int) -> Identity:
        """The person ``number`` among those who play ``role`` (``person`` or ``distractor``)."""
        return draw_identity(self.domain.wardrobe, python_rng(self.seed, *self._keys(role, number)))

    def picture(self, role: str, number: int, person: Identity | None, cam: int, k: int) -> bytes:
        """JPEG bytes of the k-th picture of a person at camera ``cam`` (from 1).

        ``person=None`` gives an empty scene; the role ``junk`` gives a badly cut box.
        """
        network, camera = self.domain.network, self.cameras[cam - 1]
        rng = python_rng(self.seed, *self._keys(role, number, cam, k, "picture"))
        passage = python_rng(self.seed, *self._keys(role, number, cam, "passage"))
        weather = draw_weather(network, passage)
        pose, light, start = self._moment(camera, passage, rng)
        if role == "junk":
            pose = _spoil(pose, rng)
        canvas = self._backdrop(cam, start)
        if person is not None:
            draw_person(canvas, person, pose, light)
        if rng.random() < network.occlusion:
            canvas = self._occlude(canvas, rng)
        image = Image.fromarray(expose(canvas, camera, weather, rng.uniform(0.96, 1.04)))
        noise = numpy_rng(self.seed, *self._keys(role, number, cam, k, "noise"))
        return encode(shrink(image, (self.width, self.height), camera, network, rng, noise), camera)

    def _moment(self, camera: Camera, passage: random.Random, rng: random.Random) -> tuple[Pose, Light, float]:
        """Pose, shading and place on the strip: shared by a passage, with a small change per picture."""
        network = self.domain.network
        yaw = camera.yaw if passage.random() < network.facing else passage.uniform(0.0, 2 * math.pi)
        yaw += passage.gauss(0.0, 0.25)
        start = passage.random()
        yaw += rng.gauss(0.0, 0.12)
        shift = network.shift
        size = camera.size * rng.uniform(0.95, 1.05)
        pose = Pose(
            yaw=yaw,
            stride=math.sin(rng.uniform(0.0, 2 * math.pi)),
            swing=rng.uniform(-1.0, 1.0),
            elbow=max(0.0, rng.uniform(-0.5, 1.0)),
            elevation=camera.elevation,
            lean=camera.lean + rng.gauss(0.0, 0.01),
            left=0.5 - 0.5 * camera.lean * self.height / self.width + 2 * rng.uniform(-shift, shift),
            top=0.5 * (1.0 - size) + rng.uniform(-shift, shift),
            size=size,
        )
        light = Light(side=camera.slant, edge=0.28)
        return pose, light, min(max(start + rng.uniform(-0.03, 0.03), 0.0), 1.0)

    def _backdrop(self, cam: int, start: float) -> np.ndarray:
        strip, width = self._strips[cam - 1], SUPERSAMPLING * self.width
        left = int(start * (STRIP - 1) * width)
        return strip[:, left : left + width].astype(np.float32) / 255.0

    def _occlude(self, canvas: np.ndarray, rng: random.Random) -> np.ndarray:
        choices = self.domain.network.occluders
        kind = rng.choices(list(choices), weights=list(choices.values()))[0]
        image = Image.fromarray((np.clip(canvas, 0.0, 1.0) * 255.0).astype(np.uint8))
        draw_occluder(kind, image, rng)
        return np.asarray(image, dtype=np.float32) / 255.0


def _spoil(pose: Pose, rng: random.Random) -> Pose:
    """A box that a detector got wrong: cuts off a part, is much too large, or sits beside the person."""
    fault = rng.choice(("upper", "lower", "side", "far"))
    if fault == "upper":
        return replace(pose, top=rng.uniform(0.02, 0.1), size=rng.uniform(1.6, 2.4))
    if fault == "lower":
        return replace(pose, top=-rng.uniform(0.7, 1.1), size=rng.uniform(1.6, 2.0))
    if fault == "side":
        return replace(pose, left=rng.choice((-0.05, 1.05)) + rng.uniform(-0.1, 0.1))
    return replace(pose, top=rng.uniform(0.1, 0.5), size=rng.uniform(0.3, 0.45))
