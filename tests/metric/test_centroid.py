"""Centroids respect cameras, keep distractors, and are the means they claim to be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.metric.centroid import CentroidLabels, gallery_centroids, rank_centroids
from ppcls.metric.ranking import Labels, rank
from ppcls.utils.errors import UserError


def case(rng, queries=12, gallery=40):
    labels = (rng.integers(1, 5, queries), rng.integers(-1, 8, gallery), rng.integers(0, 3, queries))
    labels = (*labels, rng.integers(0, 4, gallery))
    return rng.standard_normal((queries, 4)), rng.standard_normal((gallery, 4)), *labels


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_a_query_meets_no_image_of_its_own_camera(seed):
    _, gf, *sides = case(np.random.default_rng(seed))
    # Features that tell the image: the mean's non-zero entries are the images inside.
    gf = np.eye(len(gf))
    centroids = gallery_centroids(gf, Labels(*sides))
    labels = CentroidLabels(sides[0], sides[2], centroids)
    rows, columns, ignored = labels.pairs(slice(0, len(sides[0])))
    for row, column, hidden in zip(rows, columns, ignored, strict=True):
        images = np.flatnonzero(centroids.features[column])
        assert (sides[1][images] == sides[0][row]).all()
        assert hidden == (sides[3][images] == sides[2][row]).any()
    # Whoever has a match among images has one among centroids.
    pairs = (sides[1] == sides[0][:, None]) & (sides[3] != sides[2][:, None])
    np.testing.assert_array_equal(np.unique(rows[~ignored]), np.flatnonzero(pairs.any(axis=1)))


@given(seed=st.integers(0, 2**32 - 1), cameras=st.sampled_from(["respect", "all"]))
@settings(max_examples=20, deadline=None)
def test_one_gallery_image_per_person_is_instance_retrieval(seed, cameras):
    rng = np.random.default_rng(seed)
    sides = (rng.integers(1, 9, 6), rng.permutation(9), np.zeros(6, int), np.ones(9, int))
    qf, gf = rng.standard_normal((6, 4)), rng.standard_normal((9, 4))
    found = rank_centroids(qf, gf, *sides, cameras=cameras)
    np.testing.assert_array_equal(found.ap_per_query, rank(qf, gf, *sides).ap_per_query)


SIDES = ([1, 1], [1, 1, 1, 2, 2, 0, 0, -1], [0, 1], [0, 1, 2, 0, 1, 0, 3, 0])


@pytest.mark.parametrize(
    ("options", "images"),
    [
        ({}, [[5], [6], [1, 2], [0, 2], [3, 4]]),
        ({"distractors": "centroids"}, [[5, 6], [1, 2], [0, 2], [3, 4]]),
        ({"distractors": "none"}, [[1, 2], [0, 2]]),
        ({"cameras": "all"}, [[5], [6], [0, 1, 2], [3, 4]]),
        ({"cameras": "all", "distractors": "centroids"}, [[5, 6], [0, 1, 2], [3, 4]]),
        # The list of all cameras starts 0 1 0 1 2 0: the gallery's first three get 0, 1, 0.
        ({"cameras": "reference", "distractors": "none"}, [[1], [0, 2]]),
    ],
)
def test_which_images_become_centroids(options, images):
    found = gallery_centroids(np.eye(8), Labels(*SIDES), **options)
    assert [np.flatnonzero(row).tolist() for row in found.features] == images
    np.testing.assert_allclose(found.features.sum(axis=1), 1, rtol=1e-6)


def test_distractors_make_it_harder():
    rng = np.random.default_rng(0)
    qf, gf, *sides = case(rng, 40, 200)
    kept, dropped = (rank_centroids(qf, gf, *sides, distractors=kind).mAP for kind in ("images", "none"))
    assert kept < dropped


def test_errors():
    with pytest.raises(UserError, match="cameras='sometimes'"):
        gallery_centroids(np.eye(8), Labels(*SIDES), cameras="sometimes")
    with pytest.raises(UserError, match="distractors="):
        gallery_centroids(np.eye(8), Labels(*SIDES), distractors="")
    with pytest.raises(UserError, match="one to one"):
        gallery_centroids(np.eye(7), Labels(*SIDES))
    with pytest.raises(UserError, match="no centroid"):
        gallery_centroids(np.eye(2), Labels([1], [1, -1], [0], [0, 1]))
