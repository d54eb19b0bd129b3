"""Distillation of class scores."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from ppcls.loss.distillation import build_distillation
from ppcls.loss.distillation.logits import hinton
from ppcls.utils.errors import UserError
from tests.loss.gradcheck import assert_gradient

RNG = np.random.default_rng(0)
NEW, OLD = RNG.standard_normal((4, 7)), RNG.standard_normal((4, 3))


def _softmax(x):
    exponential = np.exp(x - x.max(1, keepdims=True))
    return exponential / exponential.sum(1, keepdims=True)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 3.5])
def test_hinton_compares_the_last_columns(temperature):
    p, q = _softmax(NEW[:, -3:] / temperature), _softmax(OLD / temperature)
    value = hinton(paddle.to_tensor(NEW), paddle.to_tensor(OLD), temperature)
    assert float(value) == pytest.approx((q * np.log(q / p)).sum(1).mean(), rel=1e-9)
    gradient = assert_gradient(lambda z: hinton(z, paddle.to_tensor(OLD), temperature), NEW)
    assert not gradient[:, :4].any()


def test_hinton_of_extreme_scores_is_finite():
    new = paddle.to_tensor([[1e4, -1e4]], stop_gradient=False)
    loss = hinton(new, paddle.to_tensor([[-1e4, 1e4]]), 2.0)
    loss.backward()
    assert float(loss) == pytest.approx(1e4)
    assert np.isfinite(new.grad.numpy()).all()


def test_hinton_needs_the_old_classes():
    with pytest.raises(UserError, match="scores 3 classes, the teacher 7"):
        hinton(paddle.to_tensor(OLD), paddle.to_tensor(NEW))


def test_always_be_dreaming_scores_the_student_with_the_old_classifier():
    weight = paddle.to_tensor(RNG.standard_normal((3, 5)))
    embedding = RNG.standard_normal((4, 5))
    teacher, loss = SimpleNamespace(logits=paddle.to_tensor(OLD)), build_distillation("always-be-dreaming")

    def value(x):
        return loss(SimpleNamespace(embedding=x), teacher, old_head=lambda e: e @ weight.t())

    expected = ((embedding @ weight.numpy().T - OLD) ** 2).mean()
    assert float(value(paddle.to_tensor(embedding))) == pytest.approx(expected, rel=1e-9)
    assert_gradient(value, embedding)
    with pytest.raises(UserError, match="scores of the old classes"):
        loss(SimpleNamespace(embedding=paddle.to_tensor(embedding)), teacher, old_head=lambda e: e)
