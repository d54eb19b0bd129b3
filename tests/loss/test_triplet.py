"""Triplet losses: mining, margins, stability, any counts per id."""

import math

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.loss import batch_hard_triplet, euclidean_dist, soft_weighted_triplet
from ppcls.utils.errors import UserError
from tests.loss.gradcheck import assert_gradient

LOSSES = [batch_hard_triplet, soft_weighted_triplet]
IDS = np.array([7, 3, 7, 3, 3, 9, 11, 11, 7])
FEATURES = np.random.default_rng(1).standard_normal((len(IDS), 5))


def _by_hand(features, ids, margin):
    """The definition in loops."""
    terms = []
    for anchor in range(len(ids)):
        distances = np.linalg.norm(features - features[anchor], axis=1)
        gap = distances[ids == ids[anchor]].max() - distances[ids != ids[anchor]].min()
        terms.append(np.logaddexp(0, gap) if margin is None else max(gap + margin, 0))
    return np.mean(terms)


@pytest.mark.parametrize("margin", [None, 0.0, 0.3, 2.0])
def test_batch_hard_follows_the_definition(margin):
    loss = float(batch_hard_triplet(paddle.to_tensor(FEATURES), IDS, margin))
    assert loss == pytest.approx(_by_hand(FEATURES, IDS, margin), rel=1e-6)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("margin", [None, 0.3])
def test_gradient(loss, margin):
    assert_gradient(lambda x: loss(x, IDS, margin), FEATURES)


@pytest.mark.parametrize("loss", LOSSES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_order_of_the_batch_has_no_influence(loss, data):
    ids = np.array(data.draw(st.lists(st.integers(0, 3), min_size=3, max_size=9)))
    if len(set(ids)) < 2:
        ids[0] = 10
    features = np.random.default_rng(data.draw(st.integers(0, 10**6))).standard_normal((len(ids), 4))
    order = np.array(data.draw(st.permutations(range(len(ids)))))
    original = float(loss(paddle.to_tensor(features), ids))
    shuffled = float(loss(paddle.to_tensor(features[order]), ids[order]))
    assert shuffled == pytest.approx(original, rel=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("ids", [[0, 0, 1, 1], [0, 1, 1, 0]])
def test_gap_of_a_thousand(loss, dtype, ids):
    """Far positives give the gap itself, far negatives give zero; gradients stay finite."""
    features = paddle.to_tensor(np.array([[0.0], [0.5], [1e3], [1e3 + 0.5]], dtype), stop_gradient=False)
    value = loss(features, ids)
    value.backward()
    assert np.isfinite(features.grad.numpy()).all()
    assert float(value) == pytest.approx(0.0 if ids == [0, 0, 1, 1] else 999.5, abs=1.0)


@pytest.mark.parametrize("loss", LOSSES)
def test_equal_features_have_a_finite_gradient(loss):
    features = paddle.ones([4, 3]) * 17.3
    features.stop_gradient = False
    value = loss(features, [0, 0, 1, 1])
    value.backward()
    assert float(value) == pytest.approx(math.log(2), abs=1e-5)
    assert np.isfinite(features.grad.numpy()).all()


def test_a_lone_image_is_its_own_positive():
    features = paddle.to_tensor([[0.0, 0.0], [3.0, 4.0]], dtype="float64", stop_gradient=False)
    loss = batch_hard_triplet(features, [0, 1], 0.0)
    assert float(batch_hard_triplet(features, [0, 1], 6.0)) == pytest.approx(1.0, abs=1e-5)
    assert float(loss) == 0.0


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_of_one_id_is_refused(loss):
    with pytest.raises(UserError, match="at least two ids"):
        loss(paddle.to_tensor(FEATURES), np.zeros(len(IDS), int))


def test_own_distances_are_zero_and_far_features_keep_their_digits():
    features = np.random.default_rng(2).standard_normal((6, 8)).astype(np.float32) + np.float32(100)
    exact = np.linalg.norm(features[:, None].astype(np.float64) - features[None], axis=2)
    distance = euclidean_dist(paddle.to_tensor(features)).numpy()
    np.testing.assert_allclose(distance, exact, rtol=1e-5, atol=2e-6)
