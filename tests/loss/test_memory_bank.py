"""The memory of class centres."""

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.loss.memory_bank import class_centres, memory_logits, memory_loss, update_bank
from ppcls.utils.errors import UserError
from tests.loss.gradcheck import assert_gradient

RNG = np.random.default_rng(0)
BANK = RNG.standard_normal((4, 3))
EMBEDDING = RNG.standard_normal((5, 3))
LABELS = np.array([0, 2, 2, 3, 0])


def _unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_loss_is_a_softmax_over_cosines():
    logits = _unit(EMBEDDING) @ _unit(BANK).T / 0.05
    bank = paddle.to_tensor(BANK, stop_gradient=False)
    np.testing.assert_allclose(memory_logits(paddle.to_tensor(EMBEDDING), bank).numpy(), logits, rtol=1e-9)
    log_probability = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    tensor = paddle.to_tensor(EMBEDDING, stop_gradient=False)
    loss = memory_loss(tensor, LABELS, bank)
    assert float(loss) == pytest.approx(-log_probability[np.arange(5), LABELS].mean(), rel=1e-9)
    loss.backward()
    assert bank.grad is None


def test_gradient():
    assert_gradient(lambda x: memory_loss(x, LABELS, paddle.to_tensor(BANK), 0.5), EMBEDDING)


def test_update():
    bank = paddle.to_tensor(BANK)
    moved = update_bank(bank, paddle.to_tensor(EMBEDDING), LABELS, momentum=0.8).numpy()
    expected = 0.8 * _unit(BANK[2]) + 0.2 * _unit(EMBEDDING[1:3]).mean(0)
    np.testing.assert_allclose(moved[2], _unit(expected))
    np.testing.assert_array_equal(moved[1], BANK[1])
    np.testing.assert_array_equal(bank.numpy(), BANK)


@settings(max_examples=20, deadline=None)
@given(order=st.permutations(range(5)), momentum=st.floats(0, 1))
def test_update_ignores_the_order_of_the_batch(order, momentum):
    order = np.array(order)
    bank = paddle.to_tensor(BANK)
    first = update_bank(bank, paddle.to_tensor(EMBEDDING), LABELS, momentum)
    second = update_bank(bank, paddle.to_tensor(EMBEDDING[order]), LABELS[order], momentum)
    np.testing.assert_allclose(first.numpy(), second.numpy(), atol=1e-12)


def test_centres():
    labels = np.array([0, 1, 1, 2, 0])
    centres = class_centres(paddle.to_tensor(EMBEDDING), labels, 3).numpy()
    np.testing.assert_allclose(centres[1], _unit(_unit(EMBEDDING[1:3]).mean(0)))
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1)


def test_errors():
    with pytest.raises(UserError, match="class 1 has no image"):
        class_centres(paddle.to_tensor(EMBEDDING), LABELS, 4)
    with pytest.raises(UserError, match="label 3 has no row in a memory bank of 3"):
        memory_loss(paddle.to_tensor(EMBEDDING), LABELS, paddle.to_tensor(BANK[:3]))
