"""AutoAugment with the policy that was found on ImageNet.

Cubuk et al., "AutoAugment: Learning Augmentation Strategies from Data", CVPR 2019: table 9 (the 25 sub-policies) and
table 6 (the operations and their ranges). fast-reid's stronger baseline applies it to one picture in ten.
"""

from __future__ import annotations

import random

from PIL import Image, ImageEnhance, ImageOps

from ppcls.utils.errors import UserError

#: Two steps each: (operation, probability, magnitude 0…9).
POLICY: tuple[tuple[tuple[str, float, int], tuple[str, float, int]], ...] = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
    (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 9)),
    (("color", 0.4, 0), ("equalize", 0.6, 3)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
)
_LEVELS = 9
_GREY = (128, 128, 128)
_SIGNED = {"shear_x", "rotate", "color", "contrast", "sharpness"}
_ENHANCERS = {"color": ImageEnhance.Color, "contrast": ImageEnhance.Contrast, "sharpness": ImageEnhance.Sharpness}


def apply(image: Image.Image, operation: str, level: int, sign: int = 1) -> Image.Image:
    """One operation on an RGB image at magnitude ``level`` 0 … 9; what a turn or a shear uncovers becomes grey.

    ``sign`` ±1 is the direction of shear, rotation, colour, contrast and sharpness.
    """
    share = level / _LEVELS
    if operation == "shear_x":
        return image.transform(image.size, Image.Transform.AFFINE, (1, sign * 0.3 * share, 0, 0, 1, 0), fillcolor=_GREY)
    if operation == "rotate":
        return image.rotate(sign * 30.0 * share, fillcolor=_GREY)
    if operation in _ENHANCERS:
        return _ENHANCERS[operation](image).enhance(1.0 + sign * 0.9 * share)
    if operation == "posterize":
        return ImageOps.posterize(image, 8 - round(4 * share))
    if operation == "solarize":
        return ImageOps.solarize(image, round(256 * (1.0 - share)))
    if operation == "auto_contrast":
        return ImageOps.autocontrast(image)
    if operation == "equalize":
        return ImageOps.equalize(image)
    if operation == "invert":
        return ImageOps.invert(image)
    raise ValueError(f"unknown operation {operation!r}")


class AutoAugment:
    """With probability ``prob``, one sub-policy chosen at random, on an RGB image of any size.

    Draws from ``rng``: whether; then which sub-policy and, for each of its steps, whether and with which sign.
    """

    def __init__(self, prob: float = 0.1):
        if not 0 <= prob <= 1:
            raise UserError(f"probability of auto-augment must be between 0 and 1, not {prob}")
        self.prob = prob

    def __call__(self, image: Image.Image, rng: random.Random) -> Image.Image:
        if rng.random() >= self.prob:
            return image
        image = image.convert("RGB")
        for operation, prob, level in rng.choice(POLICY):
            done, sign = rng.random() < prob, rng.choice((1, -1))
            if done:
                image = apply(image, operation, level, sign if operation in _SIGNED else 1)
        return image
