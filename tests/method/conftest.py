"""Tiny networks and batches for the methods."""

from types import SimpleNamespace

import numpy as np
import pytest

from ppcls.arch.reid_net import build_net

NEW, OLD = 4, 5


@pytest.fixture
def networks():
    """(student that has grown by four classes, frozen previous network of five)."""
    previous = build_net(18, OLD, seed=1)
    student = previous.copy()
    student.expand(NEW, np.random.RandomState(0))
    return student, previous.freeze()


@pytest.fixture
def batch():
    """``batch(views)`` → 8 new and 8 dreamed images of 32×16, four ids with two images and two ids with four."""

    def make(views=1, seed=0):
        rng = np.random.default_rng(seed)

        def stream(pids):
            images = [rng.normal(size=(8, 3, 32, 16)).astype(np.float32) for _ in range(views)]
            return SimpleNamespace(images=images, pids=np.repeat(pids, 8 // len(pids)).astype(np.int64))

        return {"new": stream([0, 1, 2, 3]), "dreamed": stream([4, 1])}

    return make
