"""What lite pictures show: identities, views and domains differ as they should."""

import io
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ppcls.data.lite.domain import DOMAINS
from ppcls.data.lite.figure import Light, Pose, draw_person
from ppcls.data.lite.garment import COLUMNS, PATTERNS, ROWS, weave
from ppcls.data.lite.person import draw_identity
from ppcls.data.lite.picture import Studio
from ppcls.data.lite.scene import OCCLUDERS, SCENES, draw_occluder, draw_strip

RED, BLUE = (0.9, 0.1, 0.1), (0.1, 0.1, 0.9)


def pixels(jpeg: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(jpeg)), dtype=np.float32)


def domain_colours(name: str, people: int = 12) -> np.ndarray:
    """Mean colour of each of a domain's pictures, [pictures, 3]."""
    studio = Studio(DOMAINS[name], cams=4, height=48, width=24, seed=3)
    means = []
    for number in range(people):
        person = studio.person("person", number)
        means += [pixels(studio.picture("person", number, person, cam, 0)).mean(axis=(0, 1)) for cam in (1, 2, 3, 4)]
    return np.array(means)


def test_domains_differ_in_colour_more_than_chance():
    colours = {name: domain_colours(name) for name in DOMAINS}
    names = list(colours)
    for i, one in enumerate(names):
        for other in names[i + 1 :]:
            gap = np.abs(colours[one].mean(axis=0) - colours[other].mean(axis=0)).max()
            assert gap > 8.0, (one, other, gap)
    saturation = {n: np.ptp(c, axis=1).mean() for n, c in colours.items()}
    assert saturation["market"] > 1.25 * max(saturation["msmt17"], saturation["duke"])


def test_a_person_looks_more_like_themselves_than_like_others_in_the_same_light():
    studio = Studio(DOMAINS["market"], cams=2, height=64, width=32, seed=0)
    people = [studio.person("person", n) for n in range(8)]
    shots = np.array([[pixels(studio.picture("person", n, p, 1, k)) for k in (0, 1)] for n, p in enumerate(people)])
    body = shots[:, :, 16:52, 10:22].mean(axis=(3,))
    distance = np.abs(body[:, None, 0] - body[None, :, 1]).mean(axis=(2, 3))
    assert (distance.argmin(axis=1) == np.arange(8)).mean() >= 0.75


def test_cameras_see_the_same_person_in_different_light():
    studio = Studio(DOMAINS["msmt17"], cams=4, height=64, width=32, seed=0)
    person = studio.person("person", 1)
    means = [pixels(studio.picture("person", 1, person, cam, 0)).mean(axis=(0, 1)) for cam in (1, 2, 3, 4)]
    spread = np.ptp(np.array(means), axis=0)
    assert spread.max() > 25.0


def render(person, yaw: float) -> np.ndarray:
    canvas = np.full((256, 128, 3), 0.5, dtype=np.float32)
    pose = Pose(yaw, stride=0, swing=0, elbow=0, elevation=0, lean=0, left=0.5, top=0.05, size=0.9)
    draw_person(canvas, person, pose, Light(side=0.0, edge=0.0))
    return canvas


def with_bag(bag: str):
    """A person of the duke domain who carries ``bag``."""
    for number in range(1000):
        person = draw_identity(DOMAINS["duke"].wardrobe, random.Random(number))
        if person.bag == bag and np.ptp(np.array([person.bag_colour, person.torso[40, 0]]), axis=0).max() > 0.25:
            return person
    raise AssertionError(f"no one carries a {bag}")


def test_a_backpack_is_seen_from_behind_and_hidden_in_front():
    person = with_bag("backpack")
    colour = np.array(person.bag_colour, dtype=np.float32)

    def area(yaw: float) -> int:
        chest = render(person, yaw)[60:110, 44:84]
        return int((np.abs(chest - colour).max(axis=2) < 0.02).sum())

    assert area(math.pi) > 3 * area(0.0) and area(math.pi) > 200


def test_turning_changes_the_outline():
    person = with_bag("none")
    width = [(np.abs(render(person, yaw)[80] - 0.5).max(axis=1) > 0.02).sum() for yaw in (0.0, math.pi / 2)]
    assert width[0] > 1.2 * width[1]


@given(pattern=st.sampled_from(PATTERNS), number=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_cloth_keeps_its_shape_and_range_and_depends_on_its_seed_alone(pattern, number):
    cloth = weave(pattern, RED, BLUE, random.Random(number))
    assert cloth.shape == (ROWS, COLUMNS, 3) and cloth.dtype == np.float32
    assert cloth.min() >= 0.0 and cloth.max() <= 1.0
    assert np.array_equal(cloth, weave(pattern, RED, BLUE, random.Random(number)))
    assert (len(np.unique(cloth.reshape(-1, 3), axis=0)) == 1) == (pattern == "plain")


def test_an_unknown_pattern_is_an_error():
    with pytest.raises(ValueError, match="paisley"):
        weave("paisley", RED, BLUE, random.Random(0))


@given(
    number=st.integers(0, 500),
    yaw=st.floats(-10, 10),
    size=st.floats(0.3, 2.4),
    top=st.floats(-1.1, 0.5),
    left=st.floats(-0.2, 1.2),
    elevation=st.floats(0, 1),
)
@settings(max_examples=30, deadline=None)
def test_any_pose_stays_in_range(number, yaw, size, top, left, elevation):
    canvas = np.full((64, 32, 3), 0.5, dtype=np.float32)
    person = draw_identity(DOMAINS["market"].wardrobe, random.Random(number))
    draw_person(canvas, person, Pose(yaw, 1, 1, 1, elevation, 0.1, left, top, size), Light(0.2, 0.3))
    assert np.isfinite(canvas).all() and canvas.min() >= 0.0 and canvas.max() <= 1.25


@pytest.mark.parametrize("kind", sorted(SCENES))
def test_scenes_are_wide_and_not_flat(kind):
    strip = draw_strip(kind, 32, 64, random.Random(0))
    assert strip.shape == (64, 128, 3) and strip.dtype == np.uint8
    assert strip.std() > 10


@pytest.mark.parametrize("kind", sorted(OCCLUDERS))
def test_occluders_hide_some_but_not_all(kind):
    hidden = []
    for number in range(12):
        image = Image.new("RGB", (64, 128), (1, 2, 3))
        draw_occluder(kind, image, random.Random(number))
        hidden.append((np.asarray(image) != (1, 2, 3)).any(axis=2).mean())
    assert max(hidden) > 0.02 and max(hidden) < 0.6
