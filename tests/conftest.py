"""Shared fixtures. The processor is tuned here, before any test imports paddle."""

from pathlib import Path

import numpy as np
import pytest

from ppcls.utils.tuning import apply_cpu_tuning

apply_cpu_tuning()

FIXTURES = Path(__file__).parent / "parity" / "fixtures"


@pytest.fixture(scope="session")
def parity():
    """``parity(name)`` → arrays of ``tests/parity/fixtures/<name>.npz`` (numbers of public reference code)."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(FIXTURES / f"{name}.npz", allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}

    return load
