"""Stateless seeds: every random draw is keyed by what it is for.

A generator is derived from ``(seed, *keys)``: the epoch, the batch, the slot. No draw depends on how many were made
before it, so the number of workers, the number of processes and the point where a run was resumed change nothing.
"""

from __future__ import annotations

import hashlib
import random

import numpy as np


def derive(seed: int, *keys: int | str) -> int:
    """A 64-bit integer that depends on ``seed`` and ``keys`` alone, the same on every machine and version."""
    text = "\x1f".join([str(int(seed)), *(f"{type(key).__name__[0]}{key}" for key in keys)])
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "little")


def python_rng(seed: int, *keys: int | str) -> random.Random:
    """A Mersenne-Twister ``random.Random`` for ``(seed, *keys)``."""
    return random.Random(derive(seed, *keys))


def numpy_rng(seed: int, *keys: int | str) -> np.random.Generator:
    """A PCG64 ``numpy.random.Generator`` for ``(seed, *keys)``."""
    return np.random.Generator(np.random.PCG64(derive(seed, *keys)))


def numpy_legacy_rng(seed: int, *keys: int | str) -> np.random.RandomState:
    """A ``numpy.random.RandomState``, for draws that must follow a published reference call by call."""
    return np.random.RandomState(derive(seed, *keys) % 2**32)
