"""Weight penalties of EWC and MAS."""

import numpy as np
import paddle
import pytest

from ppcls.loss.regularization import ewc_penalty, mas_objective, mas_penalty, update_importance


def _tensors(**values):
    return {name: paddle.to_tensor(np.array(value, np.float64)) for name, value in values.items()}


def test_penalties_and_gradient():
    params = _tensors(w=[1.0, 2.0], b=[[3.0]], other=[100.0])
    for tensor in params.values():
        tensor.stop_gradient = False
    anchors, weights = _tensors(w=[0.0, 4.0], b=[[3.5]]), _tensors(w=[2.0, 1.0], b=[[8.0]])
    penalty = ewc_penalty(params, anchors, weights)
    assert float(penalty) == pytest.approx(0.5 * (2 + 4 + 2))
    assert float(mas_penalty(params, anchors, weights)) == pytest.approx(8)
    penalty.backward()
    np.testing.assert_allclose(params["w"].grad.numpy(), [2.0, -2.0])
    np.testing.assert_allclose(params["b"].grad.numpy(), [[-4.0]])
    assert params["other"].grad is None


def test_no_movement_costs_nothing():
    params = _tensors(w=[1.0, 2.0])
    assert float(ewc_penalty(params, params, _tensors(w=[5.0, 5.0]))) == 0


def test_mismatches_are_refused():
    params = _tensors(w=[1.0])
    with pytest.raises(ValueError, match="'w': shapes"):
        ewc_penalty(params, params, _tensors(w=[1.0, 1.0]))
    with pytest.raises(ValueError, match="'v' has an importance"):
        mas_penalty(params, params, _tensors(v=[1.0]))
    with pytest.raises(ValueError, match="no parameter"):
        ewc_penalty(params, params, {})


@pytest.mark.parametrize(("kind", "power"), [("squared", 2), ("absolute", 1)])
def test_importance_is_the_mean_over_batches(kind, power):
    gradients = np.random.default_rng(0).standard_normal((5, 3))
    importance = None
    for seen, gradient in enumerate(gradients):
        importance = update_importance(importance, _tensors(w=gradient), seen, kind)
    np.testing.assert_allclose(importance["w"].numpy(), (np.abs(gradients) ** power).mean(0))
    assert importance["w"].stop_gradient


def test_mas_objective():
    features = paddle.to_tensor([[3.0, 4.0], [0.0, 0.0]], stop_gradient=False)
    value = mas_objective(features)
    value.backward()
    assert float(value) == pytest.approx(2.5)
    np.testing.assert_allclose(features.grad.numpy(), [[0.3, 0.4], [0, 0]], rtol=1e-6)
