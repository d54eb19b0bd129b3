"""Continual-learning figures on matrices small enough to check by hand."""

import json

import numpy as np
import pytest

from ppcls.metric import continual
from ppcls.utils.errors import UserError

NAN = float("nan")
RESULTS = np.array([[60.0, NAN, NAN], [66.0, 50.0, NAN], [45.0, 40.0, 70.0]])


def test_by_hand():
    summary = continual.summarise(RESULTS, joint=[70, 65, 80])
    assert summary.average_after == pytest.approx([60, 58, 155 / 3])
    assert summary.final_average == pytest.approx(155 / 3)
    assert summary.average_incremental == pytest.approx((60 + 58 + 155 / 3) / 3)
    assert summary.change == pytest.approx([-15, -10, 0])
    assert summary.relative_change == pytest.approx([-0.25, -0.2, 0])
    assert summary.backward_transfer == pytest.approx(-12.5)
    assert summary.forgetting == pytest.approx((21 + 10) / 2)
    assert summary.learning_accuracy == 60
    assert summary.intransigence == 10
    assert summary.forward_transfer is None


def test_forward_transfer_needs_results_above_the_diagonal():
    full = np.array([[60, 20, 5], [66, 50, 12], [45, 40, 70.0]])
    assert continual.forward_transfer(full, [1, 2, 3]) == pytest.approx(((20 - 2) + (12 - 3)) / 2)
    assert np.isnan(continual.forward_transfer(RESULTS, [1, 2, 3]))


def test_forms_of_forgetting():
    full = np.array([[60, 55, 5], [66, 50, 12], [70, 40, 70.0]])
    assert continual.forgetting(full, "seen") == pytest.approx((66 - 70 + 50 - 40) / 2)
    assert continual.forgetting(full, "all") == pytest.approx((66 - 70 + 55 - 40) / 2)
    assert continual.forgetting(full, "incl_last") == pytest.approx((0 + 55 - 40) / 2)


def test_one_task_and_json():
    summary = continual.summarise([[80.0]], initial=[1.0])
    assert np.isnan(summary.forgetting)
    plain = json.loads(json.dumps(summary.as_dict(), allow_nan=False))
    assert plain["forgetting"] is None and plain["forward_transfer"] is None
    assert plain["average_after"] == [80.0]
    assert continual.summarise([[0.0, NAN], [1.0, 2.0]]).as_dict()["relative_change"] == [None, 0.0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: continual.average_after(np.ones((2, 3))), "shape"),
        (lambda: continual.average_after([[1.0, NAN], [NAN, 2.0]]), "domain 1 after task 2"),
        (lambda: continual.forgetting(RESULTS, "worst"), "forgetting"),
        (lambda: continual.intransigence(RESULTS, [1.0]), "joint"),
    ],
)
def test_errors(call, message):
    with pytest.raises(UserError, match=message):
        call()
