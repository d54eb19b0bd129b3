"""Real commands on small synthetic data."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ppcls.data.lite import make_lite_data

ROOT = Path(__file__).resolve().parents[2]
SIZE = ["--depth", "18", "--height", "32", "--width", "16", "-b", "16", "--workers", "1", "--seed", "1"]
SHORT = [*SIZE, "--epochs-decay", "20", "--warmup", "0", "--pretrained", "none"]


def command(tool: str, *arguments: object) -> list[str]:
    return [sys.executable, str(ROOT / "tools" / f"{tool}.py"), *(str(argument) for argument in arguments)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}


@pytest.fixture(scope="session")
def run():
    """``run(tool, *arguments)`` → the finished process; ``status`` (default 0) is asserted."""

    def call(tool, *arguments, status=0, cwd=None, timeout=240):
        done = subprocess.run(
            command(tool, *arguments), capture_output=True, text=True, env=environment(), cwd=cwd, timeout=timeout
        )
        assert done.returncode == status, f"{tool} {arguments}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert "Traceback" not in done.stderr or status not in (0, 2), done.stderr
        return done

    return call


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Two domains of eight ids."""
    folder = tmp_path_factory.mktemp("données lite")
    make_lite_data(folder, ["msmt17", "market"], 8, 4, 2, 3, 32, 16, 0)
    return folder


@pytest.fixture(scope="session")
def task1(run, data, tmp_path_factory):
    """A run folder of task 1 after two epochs."""
    folder = tmp_path_factory.mktemp("task1")
    run(
        "main", *SHORT, "--data-root", data, "--dataset", "msmt17", "--logs-dir", folder, "--epochs", 2, "--evaluate", 2
    )
    return folder


@pytest.fixture(scope="session")
def dreams(run, task1, tmp_path_factory):
    """Four dreamed images of each id of ``task1``."""
    folder = tmp_path_factory.mktemp("dreams")
    size = ["--height", 32, "--width", 16, "--bs", 16, "--seed", 1]
    run("inversion", "--teacher", task1, "--generation-dir", folder, "--shots", 4, "--steps", 3, 2, *size)
    return folder
