"""Ranking by counting against a plain full sort, on scores that float32 holds exactly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.metric import distance, ranking
from ppcls.metric.distance import Scorer, score_strips
from ppcls.metric.ranking import Labels, count_better, rank, rank_distance, rank_strips, top_k
from ppcls.utils.errors import UserError


def naive(score, q_pids, g_pids, q_cams, g_cams, ap="rectangular", max_rank=100):
    """The protocol word by word: stable sort, drop, walk down the list."""
    values, firsts = [], []
    for row, pid, cam in zip(score, q_pids, q_cams, strict=True):
        order = np.argsort(-row, kind="stable")
        kept = [i for i in order if g_pids[i] != -1 and not (g_pids[i] == pid and g_cams[i] == cam)]
        hits = [g_pids[i] == pid for i in kept]
        if pid == -1 or not any(hits):
            values.append(np.nan)
            continue
        value, found, previous = 0.0, 0, 1.0
        for place, hit in enumerate(hits, 1):
            found += hit
            precision = found / place
            if hit:
                value += precision if ap == "rectangular" else (previous + precision) / 2
            previous = precision
        values.append(value / found)
        firsts.append(hits.index(True) + 1)
    values, firsts = np.array(values), np.array(firsts)
    return values, np.array([(firsts <= k).mean() for k in range(1, max_rank + 1)]) if len(firsts) else None


@st.composite
def retrieval(draw):
    """Few distinct integer features, so that scores tie often; ids −1 (junk) and 0 (distractor) included."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    queries, gallery = draw(st.integers(1, 12)), draw(st.integers(1, 40))
    levels = draw(st.integers(1, 4))
    ids = draw(st.integers(1, 5))
    return {
        "qf": rng.integers(-levels, levels + 1, (queries, 3)).astype(np.float32),
        "gf": rng.integers(-levels, levels + 1, (gallery, 3)).astype(np.float32),
        "q_pids": rng.integers(1, ids + 1, queries),
        "g_pids": rng.integers(-1, ids + 1, gallery),
        "q_cams": rng.integers(0, 3, queries),
        "g_cams": rng.integers(0, 3, gallery),
    }


def small_tiles(monkeypatch):
    monkeypatch.setattr(distance, "TILE_ROWS", 4)
    monkeypatch.setattr(distance, "TILE_COLUMNS", 7)
    monkeypatch.setattr(distance, "MINIMUM_BLOCK_BYTES", 4 * 4 * 7)


@pytest.mark.parametrize("ap", ranking.AP_KINDS)
@pytest.mark.parametrize("sort_cost", [1e-9, 1e9], ids=["by sorting candidates", "by comparing"])
@given(data=retrieval(), block_bytes=st.sampled_from([1, 400, 2**28]), max_rank=st.sampled_from([1, 5, 60]))
@settings(max_examples=30, deadline=None)
def test_equals_full_sort(ap, sort_cost, data, block_bytes, max_rank):
    exact = data["qf"] @ data["gf"].T - 0.5 * (data["gf"] ** 2).sum(axis=1)
    labels = [data[name] for name in ("q_pids", "g_pids", "q_cams", "g_cams")]
    values, cmc = naive(exact, *labels, ap=ap, max_rank=max_rank)
    with pytest.MonkeyPatch.context() as patch:
        small_tiles(patch)
        patch.setattr(ranking, "_SORT_COST", sort_cost)
        options = {"metric": "euclidean", "ap": ap, "max_rank": max_rank, "block_bytes": block_bytes}
        if cmc is None:
            with pytest.raises(UserError, match="no query"):
                rank(**data, **options)
            return
        result = rank(**data, **options)
    np.testing.assert_allclose(result.ap_per_query, values, atol=1e-12)
    np.testing.assert_allclose(result.cmc, cmc, atol=1e-12)
    assert result.mAP == pytest.approx(np.nanmean(values), abs=1e-12)
    assert result.num_valid == np.isfinite(values).sum()
    given_distances = rank_distance(-exact.astype(np.float64), *labels, ap=ap, max_rank=max_rank)
    np.testing.assert_array_equal(given_distances.ap_per_query, result.ap_per_query)


@given(data=retrieval())
@settings(max_examples=20, deadline=None)
def test_cosine_orders_by_angle(data):
    axes = np.array([[2, 0], [0, -1], [-4, 0], [0, 8], [3, 4], [-8, 6]], np.float32)
    data = data | {side: axes[np.abs(data[side]).sum(axis=1).astype(int) % 6] for side in ("qf", "gf")}
    unit = axes / np.linalg.norm(axes, axis=1, keepdims=True)
    unit = {tuple(axis): one for axis, one in zip(axes, unit, strict=True)}
    score = np.array([[unit[tuple(q)] @ unit[tuple(g)] for g in data["gf"]] for q in data["qf"]])
    labels = [data[name] for name in ("q_pids", "g_pids", "q_cams", "g_cams")]
    values, cmc = naive(score.round(5), *labels)
    if cmc is not None:
        np.testing.assert_allclose(rank(**data).ap_per_query, values, atol=1e-12)


def market_like(queries, gallery, size=16, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "qf": rng.standard_normal((queries, size)),
        "gf": rng.standard_normal((gallery, size)),
        "q_pids": rng.integers(1, 30, queries),
        "g_pids": rng.integers(-1, 30, gallery),
        "q_cams": rng.integers(0, 6, queries),
        "g_cams": rng.integers(0, 6, gallery),
    }


@pytest.mark.parametrize("metric", distance.RANKING_METRICS)
def test_memory_budget_never_changes_a_bit(metric):
    data = market_like(1024, 17000)
    few, many = (rank(**data, metric=metric, block_bytes=budget) for budget in (1, 2**30))
    np.testing.assert_array_equal(few.ap_per_query, many.ap_per_query)
    np.testing.assert_array_equal(few.cmc, many.cmc)
    assert few.mAP == many.mAP
    assert few.num_valid == 1024


def test_score_buffer_stays_within_its_budget():
    data = market_like(600, 17000, size=4)
    scorer = Scorer(data["qf"], data["gf"])
    sizes = {b.base.nbytes for _, parts in score_strips(scorer, 1) for _, b in parts()}
    assert sizes == {distance.MINIMUM_BLOCK_BYTES}
    sizes = {b.base.nbytes for _, parts in score_strips(scorer, 2**28) for _, b in parts()}
    assert max(sizes) <= 2**28


def test_gallery_shorter_than_max_rank():
    result = rank(np.eye(2), np.array([[0, 1], [1, 0.0]]), [1, 2], [1, 2], [0, 0], [1, 1], max_rank=50)
    assert result.cmc.shape == (50,)
    np.testing.assert_array_equal(result.cmc[:3], [0, 1, 1])
    assert result.cmc[-1] == 1
    assert result.mAP == 0.5


def test_average_precision_by_hand():
    # Positives at ranks 1, 3 and 4 of 5.
    distances = np.array([[0.1, 0.2, 0.3, 0.4, 0.5]])
    labels = ([7], [7, 0, 7, 7, 3], [1], [2, 2, 3, 2, 1])
    result = rank_distance(distances, *labels)
    assert result.mAP == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert result.mINP == result.inp_per_query == 3 / 4
    assert result.mean == (result.mAP + 1) / 2
    trapezoid = ((1 + 1) / 2 + (1 / 2 + 2 / 3) / 2 + (2 / 3 + 3 / 4) / 2) / 3
    assert rank_distance(distances, *labels, ap="trapezoid").mAP == pytest.approx(trapezoid)


def test_invalid_queries_are_left_out():
    result = rank_distance(np.array([[1.0, 2], [1, 2], [1, 2]]), [1, 2, -1], [-1, 1], [0, 0, 5], [1, 1])
    np.testing.assert_array_equal(result.ap_per_query, [1, np.nan, np.nan])
    np.testing.assert_array_equal(result.inp_per_query, [1, np.nan, np.nan])
    assert result.num_valid == 1


def test_count_better_across_parts():
    row = np.array([3, 5, 5, 1, 5], np.float32)
    scores = np.full(3, 5, np.float32)
    positions = np.array([-4, 2, 9])
    for cost in (1e-9, 1e9):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ranking, "_SORT_COST", cost)
            counts = count_better(row, positions, scores, np.empty((16, 5), bool))
        np.testing.assert_array_equal(counts, [0, 1, 3])


@given(data=retrieval(), k=st.integers(1, 50), block_bytes=st.sampled_from([1, 2**28]))
@settings(max_examples=30, deadline=None)
def test_top_k_is_a_stable_sort(data, k, block_bytes):
    squared = ((data["qf"][:, None] - data["gf"][None]) ** 2).sum(axis=2)
    expected = np.argsort(squared, axis=1, kind="stable")[:, :k]
    with pytest.MonkeyPatch.context() as patch:
        small_tiles(patch)
        index, value = top_k(data["qf"], data["gf"], k, "euclidean", block_bytes=block_bytes)
    np.testing.assert_array_equal(index, expected)
    np.testing.assert_allclose(value, np.sqrt(np.take_along_axis(squared, expected, axis=1)), rtol=1e-6)


def test_top_k_cosine_values():
    index, value = top_k(np.array([[2.0, 0]]), np.array([[0, 3.0], [5, 0], [-1, 0]]), 3)
    assert index.tolist() == [[1, 0, 2]]
    np.testing.assert_allclose(value, [[1, 0, -1]], atol=1e-7)


def test_strips_of_a_generator_are_consumed_once():
    data = market_like(30, 50)
    labels = Labels(*(data[name] for name in ("q_pids", "g_pids", "q_cams", "g_cams")))
    strips = score_strips(Scorer(data["qf"], data["gf"]))
    assert rank_strips(strips, labels).mAP == rank(**data).mAP


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gf": np.zeros((50, 5))}, "columns"),
        ({"qf": np.zeros(30)}, "shape"),
        ({"q_pids": np.zeros(29, int)}, "ids have shape"),
        ({"q_pids": np.zeros(29, int), "q_cams": np.zeros(29, int)}, "one to one"),
        ({"g_pids": np.full(50, 77)}, "no query"),
        ({"g_pids": np.full(50, -1)}, "no query"),
        ({"ap": "voc"}, "average precision"),
        ({"metric": "manhattan"}, "metric"),
        ({"max_rank": 0}, "max_rank"),
        ({"block_bytes": 0}, "block_bytes"),
        ({"gf": np.where(np.arange(200).reshape(50, 4) == 9, np.nan, 1.0)}, "row 2"),
        ({"qf": np.full((30, 4), 1e300)}, "infinity"),
        ({"qf": np.full((30, 4), 1e30)}, "too large"),
    ],
)
def test_user_errors(change, message):
    with pytest.raises(UserError, match=message):
        rank(**(market_like(30, 50, size=4) | change))


def test_distance_blocks_must_fit_the_labels():
    labels = ([1, 2], [1, 2, 3], [0, 0], [1, 1, 1])
    blocks = [(slice(0, 1), np.zeros((1, 3))), (slice(1, 2), np.ones((1, 3)))]
    assert rank_distance(iter(blocks), *labels).num_valid == 2
    with pytest.raises(UserError, match="cover 1 queries"):
        rank_distance(iter(blocks[:1]), *labels)
    with pytest.raises(UserError, match="follow each other"):
        rank_distance(iter(blocks[1:]), *labels)
    with pytest.raises(UserError, match="NaN"):
        rank_distance(np.full((2, 3), np.nan), *labels)
