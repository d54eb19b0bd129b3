"""ROC against the definition, pair by pair."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.metric import distance
from ppcls.metric.calibration import roc, roc_distance
from ppcls.utils.errors import UserError


def trials(score, q_pids, g_pids, q_cams, g_cams):
    positive, negative = [], []
    for row, pid, cam in zip(score, q_pids, q_cams, strict=True):
        kept = (g_pids != -1) & ~((g_pids == pid) & (g_cams == cam))
        if (kept & (g_pids == pid)).any():
            positive += row[kept & (g_pids == pid)].tolist()
            negative += row[kept & (g_pids != pid)].tolist()
    return np.array(positive), np.array(negative)


@given(seed=st.integers(0, 2**32 - 1), levels=st.integers(1, 6), block_bytes=st.sampled_from([1, 2**28]))
@settings(max_examples=40, deadline=None)
def test_curve_counts_pairs(seed, levels, block_bytes):
    rng = np.random.default_rng(seed)
    qf, gf = (rng.integers(-levels, levels + 1, (n, 3)).astype(np.float32) for n in (9, 30))
    labels = (rng.integers(1, 5, 9), rng.integers(-1, 5, 30), rng.integers(0, 3, 9), rng.integers(0, 3, 30))
    exact = ((qf[:, None] - gf) ** 2).sum(axis=2)
    positive, negative = trials(-exact, *labels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distance, "TILE_ROWS", 4)
        patch.setattr(distance, "TILE_COLUMNS", 7)
        patch.setattr(distance, "MINIMUM_BLOCK_BYTES", 4 * 4 * 7)
        if not len(positive) or not len(negative):
            with pytest.raises(UserError, match="no pair"):
                roc(qf, gf, *labels, metric="euclidean", block_bytes=block_bytes)
            return
        found = roc(qf, gf, *labels, metric="euclidean", block_bytes=block_bytes)
    assert (found.positives, found.negatives) == (len(positive), len(negative))
    expected = np.unique(positive)[::-1]
    np.testing.assert_allclose(found.thresholds, np.sqrt(-expected), rtol=1e-6)
    np.testing.assert_allclose(found.tpr, [(positive >= t).mean() for t in expected])
    np.testing.assert_allclose(found.fpr, [(negative >= t).mean() for t in expected])
    wins = (positive[:, None] > negative).mean() + (positive[:, None] == negative).mean() / 2
    assert found.auc == pytest.approx(wins)
    for fpr in (0.0, 0.1, 0.5, 1.0):
        allowed = [(positive >= t).mean() for t in np.append(expected, 1) if (negative >= t).mean() <= fpr]
        assert found.at_fpr(fpr).tpr == pytest.approx(max(allowed))
        assert found.at_fpr(fpr).fpr <= fpr
    given_distances = roc_distance(exact.astype(np.float64), *labels)
    np.testing.assert_array_equal(given_distances.tpr, found.tpr)
    np.testing.assert_array_equal(given_distances.fpr, found.fpr)
    np.testing.assert_allclose(given_distances.thresholds, -expected)


def test_thresholds_decide_as_the_curve_says():
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((20, 8))
    q_pids, g_pids = np.arange(20), np.repeat(np.arange(20), 6)
    qf = centres + 0.6 * rng.standard_normal((20, 8))
    gf = centres[g_pids] + 0.6 * rng.standard_normal((120, 8))
    found = roc(qf, gf, q_pids, g_pids, np.zeros(20), np.ones(120))
    cosine = distance.cosine_similarity(qf, gf)
    same = q_pids[:, None] == g_pids
    point = found.at_fpr(0.01)
    assert (cosine[same] >= point.threshold).mean() == pytest.approx(point.tpr)
    assert (cosine[~same] >= point.threshold).mean() == pytest.approx(point.fpr)
    assert 0.3 < point.tpr < 1
    equal = found.equal_error()
    assert abs(equal.fpr - (1 - equal.tpr)) < 0.02
    assert point.threshold > equal.threshold


def test_a_rate_that_nothing_meets():
    found = roc_distance(np.array([[1.0, 0.5]]), [1], [1, 2], [0], [1, 1])
    point = found.at_fpr(0.5)
    assert (point.tpr, point.fpr) == (0, 0)
    assert np.isnan(point.threshold)
    assert found.at_fpr(1).tpr == 1
    assert found.auc == 0


def test_errors():
    found = roc_distance(np.array([[1.0, 0.5]]), [1], [1, 2], [0], [1, 1])
    with pytest.raises(UserError, match="between 0 and 1"):
        found.at_fpr(1.5)
    with pytest.raises(UserError, match="same id from two cameras"):
        roc_distance(np.ones((1, 2)), [1], [1, 2], [0], [0, 1])
    with pytest.raises(UserError, match="different ids"):
        roc(np.ones((1, 2)), np.ones((2, 2)), [1], [1, 1], [0], [1, 1])
    with pytest.raises(UserError, match="one to one"):
        roc(np.ones((1, 2)), np.ones((2, 2)), [1], [1], [0], [1])
