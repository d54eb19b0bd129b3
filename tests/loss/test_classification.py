"""Cross entropy and label smoothing."""

import math

import numpy as np
import paddle
import pytest

from ppcls.loss import cross_entropy, label_smoothing_cross_entropy
from ppcls.utils.errors import UserError
from tests.loss.gradcheck import assert_gradient

LOGITS = np.random.default_rng(0).standard_normal((6, 5))
LABELS = np.array([0, 4, 2, 2, 1, 3])


def test_gradients():
    assert_gradient(lambda z: cross_entropy(z, LABELS), LOGITS)
    assert_gradient(lambda z: label_smoothing_cross_entropy(z, LABELS, 0.2), LOGITS)


def test_smoothing_interpolates_between_the_label_and_the_uniform_target():
    logits = paddle.to_tensor(LOGITS)
    plain = float(cross_entropy(logits, LABELS))
    uniform = float(-paddle.nn.functional.log_softmax(logits, axis=1).mean())
    assert float(label_smoothing_cross_entropy(logits, LABELS, 0.0)) == pytest.approx(plain, rel=1e-12)
    assert float(label_smoothing_cross_entropy(logits, LABELS, 1.0)) == pytest.approx(uniform, rel=1e-12)
    mixed = float(label_smoothing_cross_entropy(logits, LABELS, 0.3))
    assert mixed == pytest.approx(0.7 * plain + 0.3 * uniform, rel=1e-12)


def test_huge_logits_stay_finite():
    logits = paddle.to_tensor([[1e4, 0.0], [0.0, 1e4]], stop_gradient=False)
    loss = cross_entropy(logits, paddle.to_tensor([1, 1]))
    loss.backward()
    assert float(loss) == pytest.approx(5e3)
    np.testing.assert_allclose(logits.grad.numpy(), [[0.5, -0.5], [0, 0]], atol=1e-7)


def test_equal_logits_give_the_entropy_of_the_classes():
    assert float(cross_entropy(paddle.zeros([3, 7]), [0, 3, 6])) == pytest.approx(math.log(7))


def test_half_precision_is_widened():
    loss = cross_entropy(paddle.to_tensor(LOGITS.astype(np.float16)), LABELS)
    assert loss.dtype == paddle.float32


@pytest.mark.parametrize("labels", [[0, 1, 2, 3, 4, 5], [0, 1, 2, -1, 0, 0]])
def test_label_outside_the_classifier(labels):
    with pytest.raises(UserError, match="classifier with 5 classes"):
        cross_entropy(paddle.to_tensor(LOGITS), labels)


def test_one_label_per_row():
    with pytest.raises(UserError, match="3 person ids for a batch of 6"):
        cross_entropy(paddle.to_tensor(LOGITS), [0, 1, 2])
