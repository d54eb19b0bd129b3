"""Paste a piece of another picture.

Zhou et al., "Learning Generalisable Omni-Scale Representations for Person Re-Identification", TPAMI 2021 (random
patch). Published code keeps a pool of pieces of the pictures it saw lately, which makes a picture depend on those
before it; here the other picture is drawn afresh, so that a picture depends on its own random numbers alone.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

from ppcls.utils.errors import UserError

_TRIES = 100
_MIN_AREA, _MIN_RATIO = 0.01, 0.1
_TURN = 10
Donor = Callable[[random.Random], Image.Image]


class RandomPatch:
    """With probability ``prob`` a piece of U(0.01, area) of a picture, aspect ratio U(0.1, 10), is pasted somewhere.

    The piece is mirrored with probability ½ and turned by up to ±10° with probability ½ (its corners become black).
    """

    def __init__(self, prob: float = 0.5, area: float = 0.5):
        if not 0 <= prob <= 1:
            raise UserError(f"probability of a random patch must be between 0 and 1, not {prob}")
        if not _MIN_AREA <= area <= 1:
            raise UserError(f"largest area of a random patch must be between {_MIN_AREA} and 1, not {area}")
        self.prob, self.area = prob, area

    def __call__(self, pixels: np.ndarray, donor: Donor, rng: random.Random) -> np.ndarray:
        """A patched copy of ``pixels`` uint8 [H, W, 3], or ``pixels`` themselves.

        ``donor(rng)`` gives an RGB picture of the same size; it is asked only when a patch is pasted.
        """
        if rng.random() >= self.prob:
            return pixels
        height, width = pixels.shape[:2]
        size = self._size(height, width, rng)
        if size is None:
            return pixels
        rows, columns = size
        other = donor(rng)
        top, left = rng.randint(0, height - rows), rng.randint(0, width - columns)
        piece = other.crop((left, top, left + columns, top + rows))
        if rng.random() < 0.5:
            piece = ImageOps.mirror(piece)
        if rng.random() < 0.5:
            piece = piece.rotate(rng.randint(-_TURN, _TURN))
        top, left = rng.randint(0, height - rows), rng.randint(0, width - columns)
        patched = np.array(pixels)
        patched[top : top + rows, left : left + columns] = np.asarray(piece)
        return patched

    def _size(self, height: int, width: int, rng: random.Random) -> tuple[int, int] | None:
        """(rows, columns) of the piece, or None if nothing fits."""
        for _ in range(_TRIES):
            area = rng.uniform(_MIN_AREA, self.area) * height * width
            ratio = rng.uniform(_MIN_RATIO, 1 / _MIN_RATIO)
            rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < columns < width and 0 < rows < height:
                return rows, columns
        return None
