"""Local distances of tiles, lists and sums against a loop over pairs and cells."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.metric import aligned, distance, pairwise
from ppcls.metric.distance import score_strips
from ppcls.metric.ranking import Labels, rank_distance, rank_strips
from ppcls.metric.rerank import k_reciprocal, rerank_blocks
from ppcls.utils.errors import UserError


def naive(query, gallery, is_aligned):
    out = np.empty((len(query), len(gallery)))
    for a, left in enumerate(query):
        for b, right in enumerate(gallery):
            cost = np.tanh(np.linalg.norm(left[:, None] - right[None], axis=2) / 2)
            if not is_aligned:
                out[a, b] = np.trace(cost)
                continue
            total = np.full((len(left) + 1, len(right) + 1), np.inf)
            total[0, 1] = 0
            for i in range(len(left)):
                for j in range(len(right)):
                    total[i + 1, j + 1] = cost[i, j] + min(total[i, j + 1], total[i + 1, j])
            out[a, b] = total[-1, -1]
    return out


@given(
    seed=st.integers(0, 2**32 - 1),
    stripes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    images=st.tuples(st.integers(1, 7), st.integers(1, 9)),
    scale=st.sampled_from([0.1, 1.0, 30.0]),
    is_aligned=st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_equals_the_loop(seed, stripes, images, scale, is_aligned):
    rng = np.random.default_rng(seed)
    high, wide = stripes if is_aligned else (stripes[0], stripes[0])
    query, gallery = (scale * rng.standard_normal((n, h, 6)) for n, h in zip(images, (high, wide), strict=True))
    expected = naive(query, gallery, is_aligned)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aligned, "_TILE_ROWS", 3)
        patch.setattr(aligned, "_TILE_COLUMNS", 2)
        patch.setattr(aligned, "_PAIR_BYTES", 1)
        found = aligned.Stripes(query, gallery, is_aligned)
        matrix = pairwise.matrix(found)
        rows, columns = np.divmod(np.arange(expected.size), images[1])
        listed = found.pairs(rows, columns).reshape(expected.shape)
    np.testing.assert_allclose(matrix, expected, atol=3e-5)
    np.testing.assert_allclose(listed, expected, atol=3e-5)


@given(seed=st.integers(0, 2**32 - 1), shape=st.tuples(st.integers(1, 6), st.integers(1, 6)))
@settings(max_examples=30, deadline=None)
def test_alignment_is_a_cheapest_monotone_way(seed, shape):
    cost = np.random.default_rng(seed).random(shape)
    found = aligned.align(cost)
    steps = np.diff(found.path, axis=0)
    assert (found.path[0].tolist(), found.path[-1].tolist()) == ([0, 0], [shape[0] - 1, shape[1] - 1])
    assert (steps.sum(axis=1) == 1).all() and (steps >= 0).all()
    assert cost[tuple(found.path.T)].sum() == pytest.approx(found.accumulated[-1, -1])
    cells = aligned.shortest_path(cost.T[:, :, None])
    assert cells == pytest.approx(found.accumulated[-1, -1])


def features(seed=0, queries=40, gallery=130):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((12, 4, 6))
    q_pids, g_pids = rng.integers(0, 12, queries), rng.integers(0, 12, gallery)
    ql, gl = (aligned.as_stripes(centres[p] + 0.8 * rng.standard_normal((len(p), 4, 6))) for p in (q_pids, g_pids))
    qf, gf = ql.reshape(queries, -1), gl.reshape(gallery, -1)
    return (qf, ql, gf, gl), (q_pids, g_pids, np.zeros(queries), np.ones(gallery))


@pytest.mark.parametrize("kind", aligned.TEST_DISTANCES)
def test_memory_budget_never_changes_a_bit(kind, monkeypatch):
    sets, labels = features()
    for name, value in (("TILE_ROWS", 16), ("TILE_COLUMNS", 32), ("MINIMUM_BLOCK_BYTES", 4 * 16 * 32)):
        monkeypatch.setattr(distance, name, value)
    monkeypatch.setattr(aligned, "_TILE_ROWS", 8)
    monkeypatch.setattr(aligned, "_TILE_COLUMNS", 16)
    found = aligned.image_distance(*sets, kind)
    few, many = pairwise.matrix(found, 1), pairwise.matrix(found)
    np.testing.assert_array_equal(few, many)
    figures = [rank_strips(score_strips(found, budget), Labels(*labels)).mAP for budget in (1, 2**28)]
    assert figures[0] == figures[1] == pytest.approx(rank_distance(few, *labels).mAP, abs=1e-12)


def test_global_distance_reranks_like_the_features():
    (qf, ql, gf, gl), _ = features()
    every_f, every_l = np.concatenate((qf, gf)), np.concatenate((ql, gl))
    found = aligned.image_distance(every_f, every_l, every_f, every_l, "global")
    blocks = np.concatenate([block for _, block in rerank_blocks(found, len(qf))])
    np.testing.assert_allclose(blocks, k_reciprocal(distance.unit_rows(qf), distance.unit_rows(gf)), atol=1e-6)


def test_an_image_is_not_always_its_own_nearest():
    (_, _, _, gl), _ = features()
    own = np.arange(len(gl))
    found = aligned.Stripes(gl, gl)
    # The way has 2H − 1 cells, of which only H compare equal stripes.
    assert found.pairs(own, own).min() > 0.5
    assert not found.self_is_nearest
    assert aligned.Stripes(gl, gl, aligned=False).self_is_nearest


def test_stripes_become_unit_vectors():
    found = aligned.as_stripes(np.array([[[3.0, 4], [0, 0]]]))
    np.testing.assert_allclose(found, [[[0.6, 0.8], [0, 0]]], rtol=1e-6)


def test_errors():
    good = np.ones((2, 3, 4))
    for query, gallery, message in (
        (np.ones((2, 3)), good, "stripes, feature size"),
        (good, np.ones((2, 3, 5)), "same model"),
        (good, np.full((2, 3, 4), np.nan), "NaN"),
    ):
        with pytest.raises(UserError, match=message):
            aligned.Stripes(query, gallery)
    with pytest.raises(UserError, match="not 3 and 2"):
        aligned.Stripes(good, np.ones((2, 2, 4)), aligned=False)
    with pytest.raises(UserError, match="unknown test distance"):
        aligned.image_distance(np.ones((2, 4)), good, np.ones((2, 4)), good, "nearest")
    with pytest.raises(UserError, match="cannot be added"):
        pairwise.Sum([pairwise.Given(np.ones((2, 2))), aligned.Stripes(good, good[:1])])
    with pytest.raises(UserError, match="finite"):
        pairwise.Given(np.array([[np.inf]]))
    with pytest.raises(UserError, match="with each other"):
        next(rerank_blocks(pairwise.Given(np.ones((2, 3))), 1))
    with pytest.raises(UserError, match="0 queries"):
        next(rerank_blocks(pairwise.Given(np.ones((3, 3))), 0))
    with pytest.raises(UserError, match="expected one row"):
        aligned.align(np.ones(3))
    with pytest.raises(UserError, match="stripes, feature size"):
        aligned.as_stripes(np.ones((2, 0, 3)))
