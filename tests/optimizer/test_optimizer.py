"""Schedules against the published tables, and parameter groups."""

import numpy as np
import paddle
import pytest

from ppcls.optimizer import build_optimizer, warmup_multistep
from ppcls.utils.errors import UserError


@pytest.mark.parametrize(("task", "epochs", "warmup", "milestones"), [("task1", 90, 10, [61]), ("task2", 80, 0, [41])])
def test_published_schedules(parity, task, epochs, warmup, milestones):
    ours = [warmup_multistep(epoch, 0.01, warmup, milestones) for epoch in range(1, epochs + 1)]
    np.testing.assert_allclose(ours, parity("lr")[task], rtol=1e-12)


def test_groups_learn_at_multiples_of_the_rate():
    base, neck = (paddle.create_parameter([3], "float32") for _ in range(2))
    frozen = paddle.create_parameter([3], "float32")
    frozen.stop_gradient = True
    before = [p.numpy().copy() for p in (base, neck, frozen)]
    groups = [("base", [base, frozen]), ("neck", [neck])]
    optimizer = build_optimizer(groups, "SGD", 0.01, weight_decay=0.0)
    (base.sum() + neck.sum() + frozen.sum()).backward()
    optimizer.step()
    # One Nesterov step on a gradient of 1: lr·(1 + momentum).
    for parameter, old, change in zip((base, neck, frozen), before, (0.019, 0.19, 0.0), strict=True):
        np.testing.assert_allclose(old - parameter.numpy(), change, rtol=1e-3, atol=1e-9)


def test_unknown_optimizer():
    with pytest.raises(UserError, match="choose SGD or Adam"):
        build_optimizer([("base", [paddle.create_parameter([1], "float32")])], "LBFGS")
