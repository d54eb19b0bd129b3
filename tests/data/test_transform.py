"""Transforms against an independent composition of PIL and float arithmetic."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from ppcls.data.transform import EvalTransform, RandomErasing, TrainTransform
from ppcls.utils.errors import UserError

MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def picture(width, height, seed, mode="RGB"):
    noise = np.random.RandomState(seed).randint(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise).convert(mode)


def normalised(image):
    scaled = np.asarray(image).astype(np.float32) / np.float32(255)
    return ((scaled - MEAN) / STD).transpose(2, 0, 1)


sizes = st.tuples(st.integers(1, 60), st.integers(1, 60))


@settings(max_examples=25, deadline=None)
@given(sizes, sizes, st.integers(0, 999), st.sampled_from(["RGB", "L", "RGBA", "P", "CMYK"]))
def test_evaluation_equals_pil(source, target, seed, mode):
    image = picture(*source, seed, mode)
    height, width = target
    expected = normalised(image.convert("RGB").resize((width, height), Image.Resampling.BILINEAR))
    result = EvalTransform(height, width)(image)
    assert result.dtype == np.float32 and result.shape == (3, height, width)
    np.testing.assert_array_equal(result, expected)


@settings(max_examples=30, deadline=None)
@given(sizes, sizes, st.integers(0, 9999))
def test_training_equals_pil(source, target, seed):
    image, (height, width) = picture(*source, seed), target
    result = TrainTransform(height, width, re_prob=0)(image, random.Random(seed))
    rng = random.Random(seed)
    step = image.resize((width, height), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        step = ImageOps.mirror(step)
    step = ImageOps.expand(step, border=10, fill=0)
    top, left = rng.randint(0, 20), rng.randint(0, 20)
    expected = normalised(step.crop((left, top, left + width, top + height)))
    np.testing.assert_array_equal(result, expected)


def test_flip_and_crop_reach_every_value():
    image = Image.new("RGB", (40, 40))
    image.putpixel((10, 20), (255, 255, 255))
    transform, where = TrainTransform(40, 40, re_prob=0), set()
    for seed in range(4000):
        white = np.argwhere(transform(image, random.Random(seed))[0] > 2)
        where.add(tuple(white[0]))
    rows, columns = {row for row, _ in where}, {column for _, column in where}
    assert rows == set(range(10, 31))
    assert columns == set(range(0, 21)) | set(range(19, 40))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 9999), st.floats(0.02, 1))
def test_erasing_paints_one_rectangle_inside(height, width, seed, area):
    image = np.full((3, height, width), 9.0, np.float32)
    erase = RandomErasing(1.0, area)
    found = erase.rectangle(height, width, random.Random(seed))
    painted = erase(image, random.Random(seed))
    changed = painted[0] != 9
    if found is None:
        assert not changed.any()
        return
    top, left, rows, columns = found
    assert rows < height and columns < width and top + rows <= height and left + columns <= width
    assert changed.sum() == rows * columns and changed[top : top + rows, left : left + columns].all()
    np.testing.assert_array_equal(painted[:, changed], np.repeat(MEAN[:, None], rows * columns, axis=1))
    # sides are rounded, so the area may leave the range by half a pixel along each
    assert rows * columns <= (np.sqrt(area * height * width) + 0.5 * (rows + columns) + 1) ** 2


def test_erasing_probability():
    erase = RandomErasing(0.3)
    rng = random.Random(0)
    share = sum(erase.rectangle(256, 128, rng) is not None for _ in range(3000)) / 3000
    assert 0.26 < share < 0.34
    assert RandomErasing(0).rectangle(256, 128, rng) is None


def test_wrong_parameters():
    for make in (
        lambda: EvalTransform(0, 128),
        lambda: TrainTransform(256, -1),
        lambda: RandomErasing(1.5),
        lambda: RandomErasing(0.5, 0.01),
        lambda: RandomErasing(0.5, 1.01),
    ):
        with pytest.raises(UserError):
            make()


def test_padding_bounds_the_shift():
    image = Image.new("RGB", (8, 16), (255, 255, 255))
    for padding in (0, 2):
        transform = TrainTransform(16, 8, re_prob=0.0, padding=padding)
        shifts = set()
        for seed in range(200):
            inside = transform(image, random.Random(seed))[0] > 0
            shifts.add((16 - inside.any(1).sum(), 8 - inside.any(0).sum()))
        assert {shift for shift, _ in shifts} == {shift for _, shift in shifts} == set(range(padding + 1))


def test_another_mean_and_deviation():
    image = picture(7, 9, 1)
    mean, std = (0.5, 0.25, 0.75), (0.5, 0.2, 1.0)
    scaled = np.asarray(image).astype(np.float32) / np.float32(255)
    expected = ((scaled - np.array(mean, np.float32)) / np.array(std, np.float32)).transpose(2, 0, 1)
    np.testing.assert_array_equal(EvalTransform(9, 7, mean, std)(image), expected)


@pytest.mark.parametrize(
    ("mean", "std"),
    [((0, 0), (1, 1, 1)), ((0, 0, 0), (1, 0, 1)), ((0, 0, float("nan")), (1, 1, 1)), ((0, 0, 0), (1, 1))],
)
def test_a_mean_or_deviation_that_cannot_be(mean, std):
    with pytest.raises(UserError, match="std above 0"):
        EvalTransform(8, 4, mean, std)
