"""The retrieval benchmarks run, and their sides agree (they exit with 1 if not)."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import _retrieval

FOLDER = Path(__file__).parents[2] / "benchmarks"


def run(name, *flags):
    argv = [sys.executable, str(FOLDER / f"{name}.py"), "--small", "--threads", "1", *flags]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def test_ranking():
    done = run("ranking", "--torchreid-python", "none")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ratio") == 4
    assert done.stdout.count("peak memory") == 2


@pytest.mark.slow
def test_reranking():
    done = run("reranking", "--torchreid-python", "none")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("peak memory") == 2


@pytest.mark.slow
def test_aligned():
    done = run("aligned")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ratio") == 4


def test_an_interpreter_without_torchreid_is_an_error(tmp_path):
    for name in ("ranking", "reranking"):
        done = run(name, "--torchreid-python", str(tmp_path / "python"))
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: --torchreid-python")


@pytest.mark.parametrize("accuracy", _retrieval.ACCURACIES)
def test_features_are_drawn_to_size_and_again_the_same(accuracy):
    first, second = (_retrieval.draw("small", accuracy) for _ in range(2))
    assert first["qf"].shape == (200, 64)
    assert first["gf"].shape == (3000, 64)
    assert (first["g_pids"] == 0).mean() == pytest.approx(1 / 6, abs=0.05)
    for name, array in first.items():
        np.testing.assert_array_equal(array, second[name])
