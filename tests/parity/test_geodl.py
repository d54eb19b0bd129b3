"""GeoDL of the public reference at 64 x 2048 and the complement against scipy.

The reference takes an arbitrary slice of a null space from single-precision LAPACK, hence 1e-2.
"""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from scipy.linalg import null_space

from ppcls.loss.distillation import build_distillation
from ppcls.loss.distillation.geodl import complement


@pytest.mark.parametrize(("name", "key"), [("GeoDL", "geodl"), ("GeoDLxLUCIR", "geodlxlucir")])
def test_value(parity, name, key):
    data = parity("geodl")
    student = SimpleNamespace(embedding=paddle.to_tensor(data["emb_new"], stop_gradient=False))
    teacher = SimpleNamespace(embedding=paddle.to_tensor(data["emb_old"]))
    loss = build_distillation(name, {"dim": 1024})(student, teacher)
    loss.backward()
    np.testing.assert_allclose(float(loss), data[key], rtol=1e-2)
    assert np.isfinite(student.embedding.grad.numpy()).all()
    assert np.abs(student.embedding.grad.numpy()).max() > 0


def test_complement_starts_as_the_null_space_of_scipy():
    basis = np.linalg.qr(np.random.default_rng(0).standard_normal((300, 30)))[0]
    ours = complement(basis, 60)
    np.testing.assert_allclose(ours.T @ ours, np.eye(60), atol=1e-12)
    np.testing.assert_allclose(basis.T @ ours, 0, atol=1e-12)
    np.testing.assert_allclose(ours, null_space(basis.T)[:, :60], atol=1e-10)
