"""The geodesic flow kernel and the loss built on it."""

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.loss.distillation.geodl import geodesic_kernel, geodl
from ppcls.utils.errors import UserError


def _rows(seed, batch=7, dims=40):
    rows = np.random.default_rng(seed).standard_normal((2, batch, dims))
    return rows / np.linalg.norm(rows, axis=2, keepdims=True)


@settings(max_examples=20, deadline=None)
@given(batch=st.integers(3, 9), dims=st.integers(9, 90), seed=st.integers(0, 10**6))
def test_kernel_is_symmetric_and_its_basis_orthonormal(batch, dims, seed):
    basis, core = geodesic_kernel(*_rows(seed, batch, dims))
    size = batch - 2
    assert basis.shape == (dims, size + min(60, dims - size))
    np.testing.assert_allclose(basis.T @ basis, np.eye(basis.shape[1]), atol=1e-10)
    np.testing.assert_allclose(core, core.T, atol=1e-12)
    assert np.isfinite(core).all()


def test_loss_is_the_quadratic_form_and_the_kernel_is_constant():
    new, old = _rows(0)
    basis, core = geodesic_kernel(new, old)
    kernel = basis @ core @ basis.T
    expected = np.mean([q @ kernel @ q for q in new - old])
    tensor = paddle.to_tensor(3 * new, stop_gradient=False)
    loss = geodl(tensor, paddle.to_tensor(2 * old))
    loss.backward()
    assert float(loss) == pytest.approx(expected, rel=1e-9)
    by_unit = 2 * (new - old) @ kernel / len(new)
    through_norm = (by_unit - (by_unit * new).sum(1, keepdims=True) * new) / 3
    np.testing.assert_allclose(tensor.grad.numpy(), through_norm, atol=1e-12)


def test_order_of_the_batch_has_no_influence():
    new, old = _rows(1)
    order = np.random.default_rng(0).permutation(len(new))
    value = float(geodl(paddle.to_tensor(new), paddle.to_tensor(old)))
    assert float(geodl(paddle.to_tensor(new[order]), paddle.to_tensor(old[order]))) == pytest.approx(value)


def test_not_a_number_is_refused():
    rows = paddle.full([5, 8], float("nan"))
    with pytest.raises(UserError, match="NaN or infinite"):
        geodl(rows, paddle.ones([5, 8]))


@pytest.mark.parametrize(("batch", "dims"), [(2, 10), (8, 6), (12, 10)])
def test_impossible_subspaces(batch, dims):
    with pytest.raises(UserError, match="0 < B - 2 < D"):
        geodl(paddle.ones([batch, dims]), paddle.ones([batch, dims]))
