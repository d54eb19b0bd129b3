"""The plan of batches: exact counts, fixed in advance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.inversion import plan_batches
from ppcls.utils.errors import UserError

NUMBERS = {
    "seed": st.integers(0, 5),
    "shots": st.integers(1, 9),
    "classes": st.integers(1, 30),
    "size": st.integers(1, 40),
}


@settings(max_examples=60, deadline=None)
@given(**NUMBERS)
def test_counts_are_exact(seed, shots, classes, size):
    plan = plan_batches(seed, shots, classes, size)
    counts = np.bincount(np.concatenate(plan), minlength=classes)
    assert (counts == shots).all()
    assert [len(targets) for targets in plan[:-1]] == [size] * (len(plan) - 1)
    assert len(plan) == -(-shots * classes // size)


@settings(max_examples=30, deadline=None)
@given(existing=st.lists(st.integers(0, 6), min_size=1, max_size=12), **NUMBERS)
def test_existing_images_count(existing, seed, shots, classes, size):
    plan = plan_batches(seed, shots, len(existing), size, existing)
    counts = np.bincount(np.concatenate([*plan, np.zeros(0, np.int64)]), minlength=len(existing))
    np.testing.assert_array_equal(counts, np.maximum(shots - np.array(existing), 0))


@settings(max_examples=30, deadline=None)
@given(**NUMBERS)
def test_no_class_repeats_while_enough_are_unfinished(seed, shots, classes, size):
    left = np.full(classes, shots)
    for targets in plan_batches(seed, shots, classes, size):
        if (left > 0).sum() >= size:
            assert len(set(targets.tolist())) == size
        np.subtract.at(left, targets, 1)
        assert (left >= 0).all()


def test_the_plan_depends_on_the_seed_alone():
    one, same, other = (plan_batches(seed, 4, 20, 8) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("numbers", [(0, 5, 5), (5, 0, 5), (5, 5, 0)])
def test_impossible_numbers(numbers):
    with pytest.raises(UserError, match="at least 1"):
        plan_batches(0, *numbers)
