"""Residuals and residuals of residuals against their definition in loops."""

from itertools import combinations

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.loss.distillation.geometric import res_triangle, sim_res, triangle
from ppcls.utils.errors import UserError


def _cosine(u, v):
    return u @ v / np.linalg.norm(u) / np.linalg.norm(v)


def _residuals(features, ids):
    """Residuals per id, in row-major order of the pairs."""
    return {
        pid: [features[j] - features[i] for i, j in combinations(range(len(ids)), 2) if ids[i] == ids[j] == pid]
        for pid in set(ids)
    }


def _mean_cosine(new, old):
    return np.mean([_cosine(u, v) for pid in new for u, v in zip(new[pid], old[pid], strict=True)])


def _second(residuals):
    return {pid: [r[j] - r[i] for i, j in combinations(range(len(r)), 2)] for pid, r in residuals.items()}


@settings(max_examples=25, deadline=None)
@given(ids=st.lists(st.integers(0, 3), min_size=4, max_size=10), seed=st.integers(0, 10**6))
def test_definition_for_any_counts(ids, seed):
    ids = [*ids, 0, 0, 0]
    rng = np.random.default_rng(seed)
    new, old = rng.standard_normal((2, len(ids), 5))
    tensors = paddle.to_tensor(new), paddle.to_tensor(old), np.array(ids)
    first = _residuals(new, ids), _residuals(old, ids)
    of_residuals = 1 - _mean_cosine(*first)
    of_embeddings = 1 - np.mean([_cosine(u, v) for u, v in zip(new, old, strict=True)])
    of_second = 1 - _mean_cosine(_second(first[0]), _second(first[1]))
    assert float(sim_res(*tensors)) == pytest.approx(of_residuals, rel=1e-8)
    assert float(triangle(*tensors)) == pytest.approx(of_embeddings + 0.5 * of_residuals, rel=1e-8)
    assert float(res_triangle(*tensors)) == pytest.approx(of_residuals + 0.5 * of_second, rel=1e-8)


def test_a_common_shift_and_scale_change_no_residual_direction():
    rng = np.random.default_rng(0)
    new, ids = rng.standard_normal((8, 5)), np.repeat([0, 1], 4)
    assert float(res_triangle(paddle.to_tensor(new), paddle.to_tensor(3 * new + 7), ids)) < 1e-9


def test_duplicate_images_have_a_finite_gradient():
    new = paddle.ones([4, 3])
    new.stop_gradient = False
    loss = res_triangle(new, paddle.ones([4, 3]), [0, 0, 0, 0])
    loss.backward()
    assert np.isfinite(new.grad.numpy()).all()


@pytest.mark.parametrize("function", [sim_res, triangle, res_triangle])
def test_no_pair_of_one_id(function):
    features = paddle.ones([3, 2])
    with pytest.raises(UserError, match="two images of one id"):
        function(features, features, [0, 1, 2])


def test_res_triangle_needs_three_images_of_an_id():
    features = paddle.rand([4, 2])
    with pytest.raises(UserError, match="at least three images"):
        res_triangle(features, features, [0, 0, 1, 1])
    assert np.isfinite(float(sim_res(features, features, [0, 0, 1, 1])))
