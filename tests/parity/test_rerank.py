"""Re-ranking against public reference code, in its half precision and without."""

import numpy as np
import pytest

from ppcls.metric import distance
from ppcls.metric.pairwise import Given, SquaredEuclidean, Sum
from ppcls.metric.ranking import rank_distance
from ppcls.metric.rerank import KReciprocal, k_reciprocal, rerank_blocks

SETS = [("cluster", 0), ("cluster", 1), ("cluster", 2), ("cluster", 3), ("random", 0), ("random", 1), ("big", 0)]


@pytest.fixture(scope="module")
def case(parity):
    return parity("rerank")


def parameters(case, name, index, half):
    k1, k2, weight = case[f"{name}_cases"][index]
    return KReciprocal(int(k1), int(k2), float(weight), half_precision=half)


@pytest.mark.parametrize(("name", "index"), SETS)
def test_float32(case, name, index):
    query, gallery = case[f"{name}_q"], case[f"{name}_g"]
    np.testing.assert_allclose(distance.squared_euclidean(query, gallery), case[f"{name}_sqdist_qg"], atol=2e-5)
    found = k_reciprocal(query, gallery, parameters(case, name, index, False))
    np.testing.assert_allclose(found, case[f"{name}_nohalf_{index}"], atol=5e-7)
    labels = [case[f"{name}_{side}"] for side in ("qpid", "gpid", "qcam", "gcam")]
    result = rank_distance(found, *labels, max_rank=20)
    assert result.mAP == pytest.approx(float(case[f"{name}_mAP_{index}"]), abs=1e-9)
    np.testing.assert_allclose(result.cmc, case[f"{name}_cmc_{index}"], atol=1e-6)


@pytest.mark.parametrize(("name", "index"), SETS)
def test_half_precision(case, name, index):
    found = k_reciprocal(case[f"{name}_q"], case[f"{name}_g"], parameters(case, name, index, True))
    # One unit in the last place of a float16 sum.
    np.testing.assert_allclose(found, case[f"{name}_half_{index}"], atol=5e-4)


@pytest.mark.parametrize("half", [True, False], ids=["half precision", "float32"])
def test_local_distances_added_or_instead(case, half):
    features = np.concatenate((case["cluster_q"], case["cluster_g"]))
    local = Given(case["local_full"])
    for name, distances in (("add", Sum([SquaredEuclidean(features, features), local])), ("only", local)):
        blocks = rerank_blocks(distances, len(case["cluster_q"]), KReciprocal(half_precision=half))
        expected = case[f"{name}_local_{'half' if half else 'nohalf'}"]
        found = np.concatenate([block for _, block in blocks])
        np.testing.assert_allclose(found, expected, atol=5e-4 if half else 5e-7, err_msg=name)


def test_squared_inside_or_outside_is_the_same(case):
    found = k_reciprocal(case["cluster_q"], case["cluster_g"])
    np.testing.assert_allclose(found, case["squared_internally_nohalf"], atol=5e-7)
