"""Single-gallery-shot figures against their expectation, and what a draw may depend on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.metric import distance
from ppcls.metric.ranking import rank, rank_distance
from ppcls.metric.single_shot import SingleShot
from ppcls.utils.errors import UserError


def data(seed=0, queries=20, gallery=90):
    rng = np.random.default_rng(seed)
    sides = {"qf": rng.standard_normal((queries, 6)), "gf": rng.standard_normal((gallery, 6))}
    sides |= {"q_pids": rng.integers(1, 9, queries), "g_pids": rng.integers(-1, 9, gallery)}
    return sides | {"q_cams": rng.integers(0, 3, queries), "g_cams": rng.integers(0, 3, gallery)}


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_one_image_per_person_is_the_ordinary_protocol(seed):
    rng = np.random.default_rng(seed)
    distances = rng.permutation(8 * 15).reshape(8, 15).astype(float)
    labels = (rng.integers(0, 15, 8), rng.permutation(15), np.zeros(8), rng.integers(0, 2, 15) + (seed % 2))
    if not (labels[3][np.argsort(labels[1])][labels[0]] != 0).any():
        return
    sampled = rank_distance(distances, *labels, single_shot=SingleShot(3))
    plain = rank_distance(distances, *labels)
    np.testing.assert_allclose(sampled.ap_per_query, plain.ap_per_query)
    np.testing.assert_allclose(sampled.cmc, plain.cmc)
    assert (sampled.num_valid, sampled.mAP) == (plain.num_valid, pytest.approx(plain.mAP))


def test_approaches_the_exact_expectation():
    # Kept, best first: person 1 at places 1 and 4, person 2 at 2, person 3 at 3 and 5.
    distances = np.arange(5.0)[None]
    result = rank_distance(distances, [1], [1, 2, 3, 1, 3], [0], np.ones(5), single_shot=SingleShot(4000))
    # Place 1 drawn: rank 1. Place 4: 2 is better, 3 is better in half of the draws.
    assert result.mAP == pytest.approx(0.5 + 0.25 * (1 / 3 + 1 / 2), abs=0.02)
    np.testing.assert_allclose(result.cmc[:3], [0.5, 0.75, 1], atol=0.03)
    assert result.mINP == result.mAP


def test_order_of_the_gallery_and_memory_budget_change_nothing(monkeypatch):
    case = data()
    expected = rank(**case, single_shot=SingleShot(20, seed=4))
    order = np.random.default_rng(1).permutation(90)
    shuffled = case | {name: case[name][order] for name in ("gf", "g_pids", "g_cams")}
    monkeypatch.setattr(distance, "TILE_COLUMNS", 16)
    monkeypatch.setattr(distance, "TILE_ROWS", 8)
    monkeypatch.setattr(distance, "MINIMUM_BLOCK_BYTES", 4 * 16 * 8)
    for again in (
        rank(**case, single_shot=SingleShot(20, 4), block_bytes=1),
        rank(**shuffled, single_shot=SingleShot(20, 4)),
    ):
        np.testing.assert_array_equal(again.ap_per_query, expected.ap_per_query)
        np.testing.assert_array_equal(again.cmc, expected.cmc)
    assert rank(**case, single_shot=SingleShot(20, seed=5)).mAP != expected.mAP


def test_errors():
    with pytest.raises(UserError, match="at least 1"):
        SingleShot(0)
    with pytest.raises(UserError, match="no query"):
        rank(**(data() | {"g_pids": np.full(90, 77)}), single_shot=SingleShot())
