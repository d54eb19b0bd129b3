"""Distances, AP, CMC, re-ranking and continual-learning figures against public reference code."""

import numpy as np
import pytest

from ppcls.metric import continual, distance
from ppcls.metric.ranking import rank, rank_distance
from ppcls.metric.rerank import KReciprocal, k_reciprocal


@pytest.fixture(scope="module")
def case(parity):
    return parity("eval")


def labels(case):
    return [case[name] for name in ("qid", "gid", "qcam", "gcam")]


def test_distances(case):
    cosine = distance.reference_cosine_distance(case["fq"], case["fg"])
    np.testing.assert_allclose(cosine, case["dist_cos"], rtol=1e-5)
    np.testing.assert_allclose(distance.euclidean(case["fq"], case["fg"]), case["dist_euc"], rtol=1e-5)


@pytest.mark.parametrize("block_bytes", [1, 2**28])
def test_average_precision_and_cmc(case, block_bytes):
    result = rank(case["fq"], case["fg"], *labels(case), block_bytes=block_bytes)
    np.testing.assert_allclose(result.ap_per_query, case["aps"], atol=1e-9)
    np.testing.assert_allclose(result.cmc, case["cmc"], atol=1e-9)
    assert result.num_valid == case["nvalid"]
    assert result.mAP == pytest.approx(case["aps"].mean(), abs=1e-9)


def test_average_precision_from_the_reference_distances(case):
    result = rank_distance(case["dist_cos"], *labels(case))
    np.testing.assert_allclose(result.ap_per_query, case["aps"], atol=1e-9)


def test_reranking_with_the_reference_rounding(case):
    result = k_reciprocal(case["fq"], case["fg"], KReciprocal(half_precision=True))
    np.testing.assert_allclose(result, case["dist_rerank"], atol=1e-5)


def test_reranking_in_float32(case):
    # The reference keeps its sums in float16, which is worth up to 4e-3.
    difference = np.abs(k_reciprocal(case["fq"], case["fg"]) - case["dist_rerank"])
    assert difference.max() < 4e-3
    assert difference.mean() < 1e-3


@pytest.mark.parametrize("stream", ["clm0", "clm1"])
def test_continual_figures(parity, stream):
    case = {name.removeprefix(f"{stream}_"): value for name, value in parity("continual_metrics").items()}
    summary = continual.summarise(case["R"], initial=case["b"], joint=case["J"])
    expected = {
        "average_after": "A_t",
        "final_average": "A_T",
        "average_incremental": "A_incremental",
        "change": "forget_per_domain",
        "relative_change": "forget_relative",
        "backward_transfer": "BWT",
        "forgetting": "F_max_seen",
        "learning_accuracy": "LA",
        "forward_transfer": "FWT",
        "intransigence": "intransigence",
    }
    for name, key in expected.items():
        np.testing.assert_allclose(getattr(summary, name), case[key], rtol=1e-12, atol=1e-12, err_msg=name)
    for best_of, key in (("all", "F_max_all"), ("incl_last", "F_max_incl_last")):
        assert continual.forgetting(case["R"], best_of) == pytest.approx(float(case[key]), rel=1e-12)
