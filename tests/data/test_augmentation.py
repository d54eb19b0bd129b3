"""AutoAugment and random patches: keyed draws, pixels, bad settings."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ppcls.data.auto_augment import POLICY, AutoAugment, apply
from ppcls.data.loader import TrainLoader
from ppcls.data.random_patch import RandomPatch
from ppcls.data.sample import Sample
from ppcls.data.transform import TrainTransform
from ppcls.utils.errors import UserError

OPERATIONS = sorted({step[0] for steps in POLICY for step in steps})


def picture(seed=0, width=20, height=30):
    noise = np.random.RandomState(seed).randint(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def test_the_policy_is_the_published_one():
    assert len(POLICY) == 25
    assert POLICY[0] == (("posterize", 0.4, 8), ("rotate", 0.6, 9))
    assert POLICY[18][0][:2] == ("shear_x", 0.6)


def test_operations_on_known_pixels():
    image = Image.new("RGB", (2, 1))
    image.putdata([(10, 100, 255), (250, 0, 128)])

    def pixels(operation, level, sign=1):
        return np.asarray(apply(image, operation, level, sign)).tolist()[0]

    assert pixels("invert", 3) == [[245, 155, 0], [5, 255, 127]]
    assert pixels("posterize", 9) == [[0, 96, 240], [240, 0, 128]]  # 4 bits left
    assert pixels("solarize", 5) == [[10, 100, 0], [5, 0, 127]]  # from 256·4/9 = 114 on
    assert pixels("contrast", 0) == pixels("color", 0) == [[10, 100, 255], [250, 0, 128]]
    stretched = pixels("auto_contrast", 0)
    assert stretched[0][::2] == [0, 255] and stretched[1] == [255, 0, 0]


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("level", [0, 9])
def test_operations_keep_mode_and_size(operation, level):
    image = picture()
    for sign in (1, -1):
        result = apply(image, operation, level, sign)
        assert result.mode == "RGB" and result.size == image.size


def test_directions_differ():
    image = picture()
    for operation in ("shear_x", "rotate", "color", "contrast", "sharpness"):
        there, back = (np.asarray(apply(image, operation, 9, sign)) for sign in (1, -1))
        assert (there != back).any(), operation


def test_an_unknown_operation():
    with pytest.raises(ValueError, match="'blur'"):
        apply(picture(), "blur", 1)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 9999), st.sampled_from([0.0, 0.5, 1.0]))
def test_auto_augment_depends_on_its_draws_alone(seed, prob):
    augment, image = AutoAugment(prob), picture(seed)
    before = np.asarray(image).copy()
    first, second = (np.asarray(augment(image, random.Random(seed))) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(np.asarray(image), before)
    if prob == 0:
        np.testing.assert_array_equal(first, before)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999), st.floats(0.02, 1.0))
def test_a_patch_is_a_rectangle_of_the_other_picture(seed, area):
    """Black and white pictures: what is not black is the patch."""
    pixels = np.zeros((40, 30, 3), np.uint8)
    other = Image.new("RGB", (30, 40), (255, 255, 255))
    patched = RandomPatch(1.0, area)(pixels, lambda rng: other, random.Random(seed))
    assert (pixels == 0).all()
    rows, columns, _ = np.nonzero(patched)
    if len(rows):
        box = (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert box <= area * 40 * 30 * 1.3 + 40
        assert (patched != 0).any(2).sum() >= 0.5 * box  # turned pieces lose their corners


def test_no_patch_asks_for_no_picture():
    def donor(rng):
        raise AssertionError

    pixels = np.zeros((4, 4, 3), np.uint8)
    assert RandomPatch(0.0)(pixels, donor, random.Random(0)) is pixels
    assert RandomPatch(1.0)(pixels[:1, :1], donor, random.Random(0)).shape == (1, 1, 3)  # nothing fits


def test_patches_need_other_pictures():
    with pytest.raises(ValueError, match="donor"):
        TrainTransform(30, 20, patch=RandomPatch(1.0))(picture(), random.Random(3))


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_gives_patches_that_workers_and_resume_do_not_change(tmp_path, workers):
    samples = []
    for index in range(8):
        path = tmp_path / f"{index}.png"
        picture(index).save(path)
        samples.append(Sample(str(path), index // 2, 0))

    def loader(count):
        transform = TrainTransform(30, 20, auto_augment=AutoAugment(0.5), patch=RandomPatch(1.0))
        return TrainLoader(samples, {pid: pid for pid in range(4)}, transform, 4, instances=2, workers=count)

    reference = [batch.images[0] for batch in loader(0).epoch(1)]
    found = [batch.images[0] for batch in loader(workers).epoch(1)]
    resumed = [batch.images[0] for batch in loader(workers).epoch(1, start=1)]
    np.testing.assert_array_equal(found, reference)
    np.testing.assert_array_equal(resumed, reference[1:])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: AutoAugment(1.5), "auto-augment"),
        (lambda: RandomPatch(-0.1), "probability of a random patch"),
        (lambda: RandomPatch(0.5, 0.001), "largest area"),
    ],
)
def test_impossible_settings(make, message):
    with pytest.raises(UserError, match=message):
        make()
