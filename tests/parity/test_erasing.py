"""Random erasing paints the same rectangles as the public reference, drawn with Python's seed 2."""

import random

import numpy as np

from ppcls.data.transform import RandomErasing


def test_rectangles_equal_the_reference(parity):
    ref = parity("erasing")
    erase, rng = RandomErasing(prob=0.5, area=0.4), random.Random(2)
    painted = np.stack([erase(image.copy(), rng) for image in ref["inp"]])
    np.testing.assert_array_equal(painted, ref["out"])
    assert 0 < (painted != ref["inp"]).any(axis=(1, 2, 3)).sum() < len(painted)
