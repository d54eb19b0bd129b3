"""The optimiser of centres, the frozen start, and invariants of the schedules."""

import numpy as np
import paddle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.loss.center import center_loss
from ppcls.optimizer import CenterOptimizer, FrozenStart
from ppcls.optimizer import lr_scheduler as lr
from ppcls.utils.errors import UserError


@settings(max_examples=15, deadline=None)
@given(st.floats(1e-5, 10), st.integers(0, 99))
def test_the_weight_of_the_loss_has_no_influence_on_the_centres(weight, seed):
    rng = np.random.default_rng(seed)
    start, features = rng.standard_normal((4, 3)), paddle.to_tensor(rng.standard_normal((6, 3)))
    labels = rng.integers(0, 4, 6)
    centers = paddle.to_tensor(start, stop_gradient=False)
    (weight * center_loss(features, labels, centers)).backward()
    CenterOptimizer([centers], weight, 0.5).step()
    expected = start.copy()
    for row, label in zip(features.numpy(), labels, strict=True):
        expected[label] += (row - start[label]) / 6
    np.testing.assert_allclose(centers.numpy(), expected, rtol=1e-6, atol=1e-9)


def test_resume_with_momentum_is_exact():
    def run(steps, resume_at=None):
        centers = paddle.create_parameter([3, 2], "float32")
        centers.set_value(np.arange(6, dtype="float32").reshape(3, 2))
        optimizer = CenterOptimizer([centers], 5e-4, momentum=0.9)
        for step in range(steps):
            if step == resume_at:
                state, stopped = optimizer.state_dict(), centers.numpy()
                centers = paddle.create_parameter([3, 2], "float32")  # a new process would name it otherwise
                centers.set_value(stopped)
                optimizer = CenterOptimizer([centers], 5e-4, momentum=0.9)
                optimizer.set_state_dict(state)
            (5e-4 * center_loss(paddle.ones([3, 2]), [0, 1, 1], centers)).backward()
            optimizer.set_lr(0.5 * 0.9**step)
            optimizer.step()
            optimizer.clear_grad()
        return centers.numpy()

    np.testing.assert_array_equal(run(5), run(5, resume_at=2))


@pytest.mark.parametrize("weight", [0.0, -1.0, float("nan")])
def test_a_weight_that_is_not_positive(weight):
    with pytest.raises(UserError, match="give a positive one"):
        CenterOptimizer([paddle.create_parameter([2, 2], "float32")], weight)


def test_held_parameters_neither_move_nor_decay():
    held, free, fixed = (paddle.create_parameter([2], "float32") for _ in range(3))
    for parameter in (held, free, fixed):
        parameter.set_value(np.ones(2, "float32"))
    fixed.stop_gradient = True
    start = FrozenStart([held, fixed], iterations=2)
    optimizer = paddle.optimizer.Adam(0.1, parameters=[held, free], weight_decay=0.1)
    moved = []
    for iteration in range(4):
        start.set(iteration)
        (held.sum() + free.sum() + fixed.sum()).backward()
        optimizer.step()
        optimizer.clear_grad()
        moved.append((held.numpy() != 1).all())
    assert moved == [False, False, True, True]
    assert (free.numpy() != 1).all() and (fixed.numpy() == 1).all() and fixed.stop_gradient


def test_a_negative_frozen_start():
    with pytest.raises(ValueError, match="0 or more"):
        FrozenStart([], -1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 400), st.floats(1e-6, 1.0))
def test_rates_stay_between_nothing_and_their_base(step, base):
    rates = [
        lr.strong_baseline(step + 1, base),
        lr.centroids_reid(step, base),
        lr.step_decay(step, base),
        lr.cosine_delay(min(step, 60), base, 0.1 * base),
        lr.cosine_delay_iterations(step, 7, base, 0.1 * base),
        *(lr.mindspore(step, 401, 20, decay, base, 0.0, 0.1 * base) for decay in ("cosine", "steps", "poly", "linear")),
    ]
    assert all(0 <= rate <= base * (1 + 1e-12) for rate in rates)
    assert all(rate == pytest.approx(base) for rate in (lr.strong_baseline(12, base), lr.centroids_reid(12, base)))
