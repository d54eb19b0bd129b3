"""Query expansion and database augmentation against their formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.metric.expansion import augment_gallery, expand_queries
from ppcls.metric.ranking import rank
from ppcls.utils.errors import UserError


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def naive(query, database, k, alpha, own):
    cosine = query @ database.T
    if own:
        np.fill_diagonal(cosine, -np.inf)
    moved = []
    for row, feature in zip(cosine, query, strict=True):
        best = np.argsort(-row, kind="stable")[:k]
        best = best[np.isfinite(row[best])]
        moved.append(feature + (np.maximum(row[best], 0) ** alpha) @ database[best])
    return unit(np.array(moved))


@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 12),
    alpha=st.sampled_from([0.0, 1.0, 3.0]),
    times=st.integers(1, 3),
    gallery=st.integers(2, 40),
)
@settings(max_examples=30, deadline=None)
def test_formulas(seed, k, alpha, times, gallery):
    rng = np.random.default_rng(seed)
    # All cosines between images positive, so that no sum is near zero.
    qf, gf = rng.random((7, 12)) * 5, rng.random((gallery, 12)) * 5
    query, database, both = unit(qf), unit(gf), unit(gf)
    for _ in range(times):
        query, both = naive(query, database, k, alpha, False), naive(both, both, k, alpha, True)
    np.testing.assert_allclose(expand_queries(qf, gf, k, alpha, times=times), query, atol=1e-5)
    np.testing.assert_allclose(augment_gallery(gf, k, alpha, times=times), both, atol=1e-5)


def test_opposite_neighbours_do_not_count():
    found = expand_queries(np.array([[2.0, 0]]), np.array([[-3.0, 0], [0, 1]]), 2)
    np.testing.assert_allclose(found, [[1, 0]])


def test_duplicates_and_single_images():
    np.testing.assert_allclose(augment_gallery(np.ones((4, 3)), 2), np.full((4, 3), 3**-0.5), rtol=1e-6)
    np.testing.assert_allclose(augment_gallery(np.array([[0, 2.0]])), [[0, 1]])


def test_expansion_helps_where_neighbours_are_right():
    rng = np.random.default_rng(2)
    centres = rng.standard_normal((15, 16))
    q_pids, g_pids = np.arange(15), np.repeat(np.arange(15), 10)
    qf = centres + rng.standard_normal((15, 16))
    gf = centres[g_pids] + rng.standard_normal((150, 16))
    labels = (q_pids, g_pids, np.zeros(15), np.ones(150))
    before = rank(qf, gf, *labels).mAP
    assert rank(expand_queries(qf, gf), gf, *labels).mAP > before + 0.02
    assert rank(qf, augment_gallery(gf), *labels).mAP > before + 0.02


@pytest.mark.parametrize("wrong", [{"k": 0}, {"alpha": -1}, {"alpha": float("nan")}, {"times": 0}])
def test_errors(wrong):
    with pytest.raises(UserError, match="expansion needs"):
        expand_queries(np.ones((1, 2)), np.ones((3, 2)), **wrong)
    with pytest.raises(UserError, match="expansion needs"):
        augment_gallery(np.ones((3, 2)), **wrong)
