"""Images to normalised arrays, with PIL's arithmetic: the training augmentation and the evaluation
preprocessing.

Both start with PIL's antialiased bilinear resize. What follows works on bytes: flipping, padding and cropping
move pixels, and one table per channel turns a byte into (byte/255 − mean)/std, bit for bit what the float
formula gives.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
from PIL import Image

from ppcls.data.auto_augment import AutoAugment
from ppcls.data.random_patch import Donor, RandomPatch
from ppcls.utils.errors import UserError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
PADDING = 10
_ERASING_TRIES = 100
_MIN_AREA, _MIN_RATIO = 0.02, 0.3


def normalisation_table(mean: Sequence[float] = MEAN, std: Sequence[float] = STD) -> np.ndarray:
    """[3, 256] float32: the normalised value of each byte in each channel (RGB)."""
    scaled = np.arange(256, dtype=np.float32) / np.float32(255)
    means, stds = np.asarray(mean, np.float32), np.asarray(std, np.float32)
    return (scaled[None, :] - means[:, None]) / stds[:, None]


def resize(image: Image.Image, height: int, width: int) -> Image.Image:
    """RGB image of width × height, bilinear with antialiasing (PIL's own arithmetic).

    An image that has this mode and size already is returned as it is.
    """
    if image.mode == "RGB" and image.size == (width, height):
        return image
    return image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)


class RandomErasing:
    """Paint a random rectangle (Zhong et al., "Random Erasing Data Augmentation", AAAI 2020).

    With probability `prob` an area of U(0.02, area) of the image with aspect ratio U(0.3, 1/0.3) is filled
    with (.485, .456, .406) in normalised space, which is not the mean colour; the published AGD numbers come
    from that.
    """

    def __init__(self, prob: float = 0.5, area: float = 0.4):
        if not 0 <= prob <= 1:
            raise UserError(f"probability of random erasing must be between 0 and 1, not {prob}")
        if not _MIN_AREA <= area <= 1:
            raise UserError(f"largest area of random erasing must be between {_MIN_AREA} and 1, not {area}")
        self.prob, self.area = prob, area

    def rectangle(self, height: int, width: int, rng: random.Random) -> tuple[int, int, int, int] | None:
        """(top, left, height, width) of the rectangle to paint, or None: nothing drawn or nothing fits."""
        if rng.uniform(0, 1) >= self.prob:
            return None
        for _ in range(_ERASING_TRIES):
            area = rng.uniform(_MIN_AREA, self.area) * height * width
            ratio = rng.uniform(_MIN_RATIO, 1 / _MIN_RATIO)
            rows, columns = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if columns < width and rows < height:
                return rng.randint(0, height - rows), rng.randint(0, width - columns), rows, columns
        return None

    def __call__(self, array: np.ndarray, rng: random.Random) -> np.ndarray:
        """Paint into `array` [3, H, W] in place and return it."""
        found = self.rectangle(array.shape[1], array.shape[2], rng)
        if found is not None:
            top, left, rows, columns = found
            array[:, top : top + rows, left : left + columns] = np.asarray(MEAN, array.dtype)[:, None, None]
        return array


class EvalTransform:
    """Resize to (height, width), scale to [0, 1], normalise. PIL image → float32 [3, height, width].

    This is the one preprocessing of evaluation, export, inference and serving. ``mean`` and ``std`` are per channel
    (RGB), of values in [0, 1].
    """

    def __init__(self, height: int = 256, width: int = 128, mean: Sequence[float] = MEAN, std: Sequence[float] = STD):
        if height < 1 or width < 1:
            raise UserError(f"image size must be positive, not {height}x{width} (height x width)")
        if len(mean) != 3 or len(std) != 3 or not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
            raise UserError(f"mean {tuple(mean)} and std {tuple(std)} must be three numbers each, std above 0")
        self.height, self.width = height, width
        self.table = normalisation_table(mean, std)

    def __call__(self, image: Image.Image, rng: random.Random | None = None) -> np.ndarray:
        """`rng` is accepted so that every transform is called alike, and not used."""
        pixels = np.asarray(resize(image, self.height, self.width))
        result = np.empty((3, self.height, self.width), np.float32)
        for channel in range(3):  # "clip" spares the check of indices, and bytes always fit into the table
            np.take(self.table[channel], pixels[..., channel], out=result[channel], mode="clip")
        return result


class TrainTransform(EvalTransform):
    """Resize, flip (½), pad with zeros (10 pixels), random crop back, scale, normalise, erase.

    PIL image → float32 [3, height, width].

    Two more steps are off by default: `auto_augment`, before the flip, and `patch`, after it. Each object makes its
    own draws; without them the draws from `rng` are, in this order: flip, top, left, erasing.
    """

    def __init__(
        self,
        height: int = 256,
        width: int = 128,
        re_prob: float = 0.5,
        re_area: float = 0.4,
        padding: int = PADDING,
        auto_augment: AutoAugment | None = None,
        patch: RandomPatch | None = None,
    ):
        super().__init__(height, width)
        if padding < 0:
            raise UserError(f"padding must not be negative, not {padding}")
        self.padding = padding
        self.erase = RandomErasing(re_prob, re_area)
        self.auto_augment, self.patch = auto_augment, patch

    def __call__(self, image: Image.Image, rng: random.Random, donor: Donor | None = None) -> np.ndarray:
        """`donor(rng)` gives another picture of (height, width) to take patches from; needed with `patch` only."""
        image = resize(image, self.height, self.width)
        if self.auto_augment is not None:
            image = self.auto_augment(image, rng)
        pixels = np.asarray(image)
        if rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        if self.patch is not None:
            if donor is None:
                raise ValueError("random patches need a donor of other pictures")
            pixels = self.patch(pixels, donor, rng)
        down, right = (rng.randint(0, 2 * self.padding) - self.padding for _ in range(2))
        rows, rows_from = _overlap(self.height, down)
        columns, columns_from = _overlap(self.width, right)
        result = np.empty((3, self.height, self.width), np.float32)
        result[:] = self.table[:, :1, None]
        for channel in range(3):
            result[channel, rows, columns] = self.table[channel][pixels[rows_from, columns_from, channel]]
        return self.erase(result, rng)


def _overlap(size: int, offset: int) -> tuple[slice, slice]:
    """Where a window starting at `offset` of an axis of `size` overlaps it: slices of window and of axis."""
    first, last = max(offset, 0), min(size, size + offset)
    return slice(first - offset, max(last, first) - offset), slice(first, max(last, first))
