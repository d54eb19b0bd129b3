"""Sparse re-ranking against a dense transcription of the paper's sets and formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.metric import distance, rerank
from ppcls.metric.pairwise import Given, SquaredEuclidean
from ppcls.metric.ranking import rank_distance
from ppcls.metric.rerank import KReciprocal, k_reciprocal, k_reciprocal_blocks
from ppcls.utils.errors import UserError


def dense(qf, gf, k1, k2, weight):
    """Python sets and full matrices in float64."""
    points = np.concatenate((qf, gf)).astype(np.float64)
    total = len(points)
    original = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    original /= original.max(axis=1, keepdims=True)
    order = np.argsort(original, axis=1, kind="stable")

    def reciprocal(i, k):
        return {j for j in order[i, : k + 1] if i in order[j, : k + 1]}

    encoding = np.zeros((total, total))
    for i in range(total):
        near = reciprocal(i, k1)
        members = set(near)
        for candidate in near:
            more = reciprocal(candidate, round(k1 / 2))
            if len(more & near) > 2 / 3 * len(more):
                members |= more
        members = sorted(members)
        encoding[i, members] = np.exp(-original[i, members])
    encoding /= encoding.sum(axis=1, keepdims=True)
    encoding = np.stack([encoding[order[i, :k2]].mean(axis=0) for i in range(total)])
    query, gallery = encoding[: len(qf)], encoding[len(qf) :]
    smaller = np.minimum(query[:, None], gallery[None]).sum(axis=2)
    larger = np.maximum(query[:, None], gallery[None]).sum(axis=2)
    return (1 - weight) * (1 - smaller / larger) + weight * original[: len(qf), len(qf) :]


@given(
    seed=st.integers(0, 2**32 - 1),
    sizes=st.tuples(st.integers(1, 8), st.integers(1, 30)),
    k1=st.integers(1, 12),
    k2=st.integers(1, 4),
    weight=st.sampled_from([0.0, 0.3, 1.0]),
)
@settings(max_examples=30, deadline=None)
def test_equals_dense_form(seed, sizes, k1, k2, weight):
    rng = np.random.default_rng(seed)
    qf, gf = (rng.standard_normal((size, 6)).astype(np.float32) for size in sizes)
    result = k_reciprocal(qf, gf, KReciprocal(k1, k2, weight))
    np.testing.assert_allclose(result, dense(qf, gf, k1, k2, weight), atol=3e-6)


def small_tiles(patch):
    for module in (distance, rerank):
        patch.setattr(module, "TILE_ROWS", 16)
        patch.setattr(module, "TILE_COLUMNS", 32)
    patch.setattr(distance, "MINIMUM_BLOCK_BYTES", 4 * 16 * 32)


def test_memory_budget_never_changes_a_bit(monkeypatch):
    rng = np.random.default_rng(0)
    qf, gf = rng.standard_normal((30, 8)), rng.standard_normal((120, 8))
    whole = k_reciprocal(qf, gf)
    small_tiles(monkeypatch)
    np.testing.assert_array_equal(k_reciprocal(qf, gf, block_bytes=1), k_reciprocal(qf, gf))
    np.testing.assert_allclose(k_reciprocal(qf, gf), whole, atol=1e-5)


@given(seed=st.integers(0, 2**32 - 1), total=st.integers(2, 90), count=st.integers(1, 25), keys=st.integers(1, 500))
@settings(max_examples=30, deadline=None)
def test_neighbours_are_a_stable_sort(seed, total, count, keys):
    # Points on a coarse grid: exact in float32, with many ties and duplicates.
    points = np.random.default_rng(seed).integers(-2, 3, (total, 2)).astype(np.float32)
    squared = ((points[:, None] - points) ** 2).sum(axis=2)
    count = min(count, total)
    for features in (True, False):
        distances = SquaredEuclidean(points, points) if features else Given(squared)
        expected = squared.copy()
        if features:
            np.fill_diagonal(expected, -1)
        with pytest.MonkeyPatch.context() as patch:
            small_tiles(patch)
            patch.setattr(rerank, "_KEYS", keys)
            neighbours, farthest = rerank._neighbours(distances, count)
        np.testing.assert_array_equal(neighbours, np.argsort(expected, axis=1, kind="stable")[:, :count])
        np.testing.assert_array_equal(farthest, np.maximum(squared.max(axis=1), np.finfo(np.float32).tiny))


def test_clear_clusters_become_clearer():
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((12, 16))
    q_pids, g_pids = np.arange(12), np.repeat(np.arange(12), 15)
    qf = centres[q_pids] + 0.75 * rng.standard_normal((12, 16))
    gf = centres[g_pids] + 0.75 * rng.standard_normal((180, 16))
    labels = (q_pids, g_pids, np.zeros(12), np.ones(180))
    before = rank_distance(distance.squared_euclidean(qf, gf), *labels).mAP
    after = rank_distance(k_reciprocal_blocks(qf, gf), *labels).mAP
    assert after > before + 0.03


def test_duplicates_do_not_divide_by_zero():
    result = k_reciprocal(np.ones((3, 4)), np.ones((40, 4)))
    assert np.isfinite(result).all()


@pytest.mark.parametrize("wrong", [{"k1": 0}, {"k2": 0}, {"original_weight": 1.5}])
def test_parameters_are_checked(wrong):
    with pytest.raises(UserError, match="re-ranking needs"):
        KReciprocal(**wrong)
