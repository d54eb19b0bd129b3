"""Retrieval protocols, centroid retrieval and AlignedReID++ distances against public reference code."""

import numpy as np
import pytest

from ppcls.metric import aligned, pairwise
from ppcls.metric.centroid import gallery_centroids, rank_centroids
from ppcls.metric.distance import score_strips
from ppcls.metric.ranking import Labels, rank, rank_distance, rank_strips
from ppcls.metric.rerank import KReciprocal, rerank_blocks
from ppcls.metric.single_shot import SingleShot

LABELS = ("qpid", "gpid", "qcam", "gcam")


@pytest.fixture(scope="module")
def protocols(parity):
    return parity("retrieval_protocols")


@pytest.fixture(scope="module")
def centroids(parity):
    return parity("ctl")


@pytest.fixture(scope="module")
def stripes(parity):
    return parity("aligned")


def labels(case, prefix=""):
    return [case[prefix + name] for name in LABELS]


def test_average_precision_cmc_and_minp(protocols):
    result = rank_distance(protocols["distmat"], *labels(protocols), max_rank=50)
    assert result.mAP == pytest.approx(float(protocols["market_junk_dropped_mAP"]), abs=1e-9)
    assert result.mINP == pytest.approx(float(protocols["market_junk_dropped_mINP"]), abs=1e-9)
    assert result.num_valid == protocols["market_junk_dropped_num_valid"]
    np.testing.assert_allclose(result.cmc, protocols["market_junk_dropped_cmc"], atol=1e-6)
    expected = protocols["market_junk_dropped_AP_per_query"]
    np.testing.assert_allclose(np.nan_to_num(result.ap_per_query, nan=-1), expected, atol=1e-9)
    assert result.mean == pytest.approx((result.mAP + result.cmc[0]) / 2)


def test_junk_as_an_ordinary_person(protocols):
    q_pids, g_pids, *cams = labels(protocols)
    result = rank_distance(protocols["distmat"], q_pids, np.where(g_pids == -1, -2, g_pids), *cams, max_rank=50)
    assert result.mAP == pytest.approx(float(protocols["market_junk_kept_mAP"]), abs=1e-9)
    assert result.mINP == pytest.approx(float(protocols["market_junk_kept_mINP"]), abs=1e-9)


def test_gallery_shorter_than_the_curve(protocols):
    columns = protocols["short_gallery_index"]
    q_pids, g_pids, q_cams, g_cams = labels(protocols)
    moved = g_cams[columns] + protocols["short_gallery_cam_offset"]
    result = rank_distance(protocols["distmat"][:, columns], q_pids, g_pids[columns], q_cams, moved, max_rank=30)
    assert result.mAP == pytest.approx(float(protocols["short_mAP"]), abs=1e-9)
    np.testing.assert_allclose(result.cmc, protocols["short_cmc"], atol=1e-6)


def test_single_shot_with_the_reference_draws(protocols):
    state = np.random.RandomState(int(protocols["cuhk03_seed"]))

    class ReferenceDraws(SingleShot):
        def draw(self, query, sizes):
            return np.array([[state.randint(0, size) for size in sizes] for _ in range(self.repeats)])

    result = rank_distance(protocols["distmat"], *labels(protocols), max_rank=50, single_shot=ReferenceDraws())
    assert result.mAP == pytest.approx(float(protocols["cuhk03_seeded_mAP"]), abs=1e-9)
    np.testing.assert_allclose(result.cmc, protocols["cuhk03_seeded_cmc"], atol=1e-6)


def test_single_shot_with_own_draws(protocols):
    result = rank_distance(protocols["distmat"], *labels(protocols), max_rank=50, single_shot=SingleShot())
    found = [result.mAP, *result.cmc[[0, 4, 9]]]
    expected = [protocols["cuhk03_mean_mAP"], *protocols["cuhk03_mean_cmc"][[0, 4, 9]]]
    assert (np.abs(np.subtract(found, expected)) < 4 * protocols["cuhk03_std_single_run"]).all()


CENTROID_CASES = {
    "fixed_respect": {"cameras": "respect", "distractors": "none"},
    "reference_respect": {"cameras": "reference", "distractors": "none"},
    "all": {"cameras": "all", "distractors": "centroids"},
}


@pytest.mark.parametrize("name", CENTROID_CASES)
def test_centroids(centroids, name):
    def expected(key):
        return centroids[f"ev_{name}_{key}"]

    options, sides = CENTROID_CASES[name], labels(centroids, "ev_")
    found = gallery_centroids(centroids["ev_gf"], Labels(*sides), **options)
    np.testing.assert_allclose(found.features, expected("centroids"), atol=2e-5)
    np.testing.assert_array_equal(found.pids, expected("labels"))
    np.testing.assert_array_equal(found.has_camera @ 2**found.cameras, expected("cams_bitmask"))
    result = rank_centroids(centroids["ev_qf"], centroids["ev_gf"], *sides, **options, max_rank=50)
    assert result.mAP == pytest.approx(float(expected("mAP")), abs=1e-9)
    np.testing.assert_allclose(result.cmc, expected("cmc"), atol=1e-6)
    np.testing.assert_allclose(result.cmc[[0, 4, 9, 19, 49]], expected("top1_5_10_20_50"), atol=1e-6)
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(result.ap_per_query)), expected("query_idx"))
    np.testing.assert_allclose(result.ap_per_query[expected("query_idx")], expected("AP"), atol=1e-9)


def test_instances_of_the_centroid_case(centroids):
    result = rank(centroids["ev_qf"], centroids["ev_gf"], *labels(centroids, "ev_"), max_rank=50)
    assert result.mAP == pytest.approx(float(centroids["ev_instance_mAP"]), abs=1e-9)
    np.testing.assert_allclose(result.cmc, centroids["ev_instance_cmc"], atol=1e-6)


def local(query, gallery, is_aligned=True):
    return pairwise.matrix(aligned.Stripes(query, gallery, is_aligned))


def test_local_distances(stripes):
    query, gallery = stripes["rect_q"], stripes["rect_g"]
    np.testing.assert_allclose(local(query, gallery), stripes["rect_aligned"], atol=2e-5)
    np.testing.assert_allclose(local(query, gallery, False), stripes["rect_unaligned"], atol=2e-5)
    short, long = stripes["rect_q_stripes6"], stripes["rect_g_stripes9"]
    np.testing.assert_allclose(local(short, long), stripes["rect_aligned_6x9"], atol=2e-5)


def test_local_distances_of_more_rows_than_a_tile(stripes):
    state = np.random.RandomState(int(stripes["big_seed"]))
    query = aligned.as_stripes(state.randn(int(stripes["big_n"]), 8, 6).astype(np.float32))
    np.testing.assert_allclose(local(query, stripes["big_g"]), stripes["big_aligned"], atol=2e-5)


def test_listed_pairs(stripes):
    here = np.arange(len(stripes["pair_x"]))
    found = aligned.Stripes(stripes["pair_x"], stripes["pair_y"]).pairs(here, here)
    # Equal stripes are the root of rounding noise apart.
    nearest = np.linalg.norm(stripes["pair_x"][:, :, None] - stripes["pair_y"][:, None], axis=3).min(axis=(1, 2))
    np.testing.assert_allclose(found[nearest > 0.05], stripes["pair_dmli"][nearest > 0.05], atol=2e-5)
    np.testing.assert_allclose(found, stripes["pair_dmli"], atol=2e-3)
    cost = np.tanh(np.linalg.norm(stripes["pair_x"][:4, :, None] - stripes["pair_y"][:4, None], axis=3) / 2)
    np.testing.assert_allclose(cost, stripes["pair_stripe_tanh"], atol=2e-5)
    totals = [aligned.align(one).accumulated[-1, -1] for one in stripes["pair_stripe_tanh"]]
    np.testing.assert_allclose(totals, stripes["pair_dmli"][:4], rtol=1e-7)


def test_alignment_paths(stripes):
    for cost, path, figures in zip(stripes["dtw_in"], stripes["dtw_path"], stripes["dtw_norm_total_diag"], strict=True):
        found = aligned.align(cost)
        np.testing.assert_array_equal(found.path.T, path)
        total = found.accumulated[-1, -1]
        np.testing.assert_allclose([total / 16, total, cost.diagonal().mean()], figures, rtol=1e-12)
    np.testing.assert_allclose(aligned.align(stripes["dtw_in"][0]).accumulated, stripes["dtw_acc0"], rtol=1e-12)


TEST_DISTANCES = {
    "global": ("global", True),
    "local": ("local", True),
    "local_unaligned": ("local", False),
    "global_local": ("global_local", True),
    "global_local_unaligned": ("global_local", False),
}


@pytest.mark.parametrize("name", TEST_DISTANCES)
def test_test_distances(stripes, name):
    (ql, gl), (qf, gf) = ((stripes[f"t_q{x}"], stripes[f"t_g{x}"]) for x in "lf")
    ql, gl = ql.swapaxes(1, 2), gl.swapaxes(1, 2)
    found = aligned.image_distance(qf, ql, gf, gl, *TEST_DISTANCES[name])
    np.testing.assert_allclose(pairwise.matrix(found), stripes[f"t_{name}_dist"], atol=2e-5)
    result = rank_strips(score_strips(found), Labels(*labels(stripes, "t_")), max_rank=50)
    assert result.mAP == pytest.approx(float(stripes[f"t_{name}_mAP"]), abs=1e-9)
    np.testing.assert_allclose(result.cmc, stripes[f"t_{name}_cmc"], atol=1e-6)


@pytest.mark.parametrize("name", TEST_DISTANCES)
@pytest.mark.parametrize("half", [True, False], ids=["half precision", "float32"])
def test_reranked_test_distances(stripes, name, half):
    everyone_f = np.concatenate((stripes["t_qf"], stripes["t_gf"]))
    everyone_l = np.concatenate((stripes["t_ql"], stripes["t_gl"])).swapaxes(1, 2)
    found = aligned.image_distance(everyone_f, everyone_l, everyone_f, everyone_l, *TEST_DISTANCES[name])
    blocks = list(rerank_blocks(found, len(stripes["t_qf"]), KReciprocal(half_precision=half)))
    key = f"t_{name}_rerank_{'half' if half else 'nohalf'}"
    distances = np.concatenate([block for _, block in blocks])
    np.testing.assert_allclose(distances, stripes[f"{key}_dist"], atol=1e-3 if half else 2e-5)
    result = rank_distance(iter(blocks), *labels(stripes, "t_"), max_rank=50)
    assert result.mAP == pytest.approx(float(stripes[f"{key}_mAP"]), abs=5e-3 if half else 1e-9)
    np.testing.assert_allclose(result.cmc, stripes[f"{key}_cmc"], atol=1e-6)
