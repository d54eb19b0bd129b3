"""Killed with SIGKILL at any point and started again: the same weights, bit for bit."""

import signal
import subprocess
import time

import pytest

from ppcls.engine.run_folder import RunFolder
from tests.e2e.conftest import SHORT, command, environment

pytestmark = pytest.mark.slow


def kill_when(arguments, folder, reached, timeout=120):
    """Start a command and SIGKILL it as soon as ``reached(lines of metrics.jsonl)`` holds."""
    process = subprocess.Popen(
        command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment()
    )
    started = time.monotonic()
    while process.poll() is None and time.monotonic() - started < timeout:
        if reached(RunFolder(folder).metrics()):
            process.send_signal(signal.SIGKILL)
            process.wait()
            return
        time.sleep(0.005)
    raise AssertionError(f"the command ended with {process.poll()} before the point was reached")


def after_step(epoch, iteration):
    return lambda lines: any(
        line["kind"] == "train" and (line["epoch"], line["iteration"]) >= (epoch, iteration) for line in lines
    )


def evaluated(lines):
    return any(line["kind"] == "evaluate" for line in lines)


@pytest.mark.parametrize("kind", ["task1", "augmented"])
def test_killed_and_resumed_is_bit_identical(run, data, task1, dreams, tmp_path, kind):
    common = [*SHORT, "--data-root", data, "--epochs", 3, "--evaluate", 1, "--save-minutes", "0.0001"]
    if kind == "task1":
        arguments = ["main", *common, "--dataset", "msmt17", "--peers", 2]
    else:
        arguments = [
            "main_incrementalX",
            *common,
            "--dataset",
            "market",
            "--previous",
            task1,
            "--inversion-dir",
            dreams,
        ]
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(*arguments, "--logs-dir", whole)

    arguments += ["--logs-dir", broken, "--resume"]
    for reached in (after_step(1, 1), evaluated, after_step(2, 2), after_step(3, 1)):
        kill_when(arguments, broken, reached)
    out = run(*arguments).stdout
    assert "resumed at epoch" in out

    assert (broken / "checkpoint.pdparams").read_bytes() == (whole / "checkpoint.pdparams").read_bytes()
    steps = [(line["kind"], line["epoch"], line["iteration"]) for line in RunFolder(whole).metrics()]
    again = [(line["kind"], line["epoch"], line["iteration"]) for line in RunFolder(broken).metrics()]
    assert sorted(again) == sorted(steps)
    assert not list(broken.glob("earlier-*/*.pd*"))  # at most the log of an attempt that had saved nothing


def test_resume_into_another_folder_and_longer(run, data, task1, tmp_path):
    longer = tmp_path / "longer"
    options = [*SHORT, "--data-root", data, "--dataset", "msmt17", "--evaluate", 0]
    before = (task1 / "checkpoint.pdparams").read_bytes()
    run("main", *options, "--logs-dir", longer, "--resume", task1, "--epochs", 3)
    assert (task1 / "checkpoint.pdparams").read_bytes() == before
    straight = tmp_path / "straight"
    run("main", *options, "--logs-dir", straight, "--epochs", 3)
    assert (longer / "checkpoint.pdparams").read_bytes() == (straight / "checkpoint.pdparams").read_bytes()
