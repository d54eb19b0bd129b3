"""A stream of three tasks through the real command, killed in the middle of several stages."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ppcls.data.lite import make_lite_data

TOOL = Path(__file__).parents[2] / "tools" / "lifelong.py"
TASKS = ("msmt17", "market", "duke")
COMMAND = [
    sys.executable, str(TOOL), "--tasks", *TASKS, "--depth", "18", "--height", "32", "--width", "16", "-g", "cpu",
    "--first-epochs", "1", "--epochs", "1", "--first-batch-size", "16", "--batch-size", "16", "--steps", "2", "2",
    "--shots", "4", "--bs", "16", "--seed", "3", "--workers", "0", "--earlier-data", "delete", "--yes",
    "--save-minutes", "0.0001", "--data-root", "data", "--logs-dir", "logs",
]  # fmt: skip
#: (the stage, what it says when it is half done): there the process gets SIGKILL.
KILLS = (
    ("task1-msmt17: ", "Epoch: [1][1/"),
    ("task2-market: ", "Epoch: [1][1/"),
    ("dreams-2: ", "Finish Generation No. 1"),
    ("evaluation-3: ", "market: compute dist"),
)


def make_place(folder):
    make_lite_data(folder / "data", TASKS, ids=8, test_ids=6, cams=2, images_per_cam=2, height=64, width=32)
    return folder


def start(place):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        COMMAND, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(place):
    with start(place) as process:
        said = process.stdout.read()
    assert process.returncode == 0, said[-3000:]
    return said


def kill_when(place, stage, words):
    """Kill the command at the first line with ``words`` after the one that announces ``stage``."""
    with start(place) as process:
        said, inside = [], False
        for line in process.stdout:
            said.append(line)
            inside = inside or (line.startswith("stage ") and stage in line)
            if inside and words in line:
                process.send_signal(signal.SIGKILL)
                break
        process.stdout.read()
    assert process.returncode == -signal.SIGKILL, "".join(said)[-3000:]


@pytest.mark.slow
def test_a_killed_stream_ends_with_the_same_files(tmp_path):
    whole, killed = make_place(tmp_path / "whole"), make_place(tmp_path / "killed")
    assert finish(whole).splitlines()[-1] == "logs"
    for stage, words in KILLS:
        kill_when(killed, stage, words)
        assert not (killed / "logs" / "report.json").exists()
    (killed / "data" / "msmt17" / "bounding_box_train").rmdir()  # its images were deleted: nobody may miss the folder
    said = finish(killed)
    assert "task3-duke: done already" in said and "evaluation-3: goes on" in said

    names = {
        str(path.relative_to(whole)) for path in (whole / "logs").rglob("*") if path.suffix in (".pdparams", ".jpg")
    }
    assert len([name for name in names if name.endswith("checkpoint.pdparams")]) == 3
    assert len([name for name in names if name.endswith(".jpg")]) == (8 + 16) * 4
    for name in [*names, "logs/report.json", "logs/report.md"]:
        assert (killed / name).read_bytes() == (whole / name).read_bytes(), name
    left = [len(list((killed / "data" / name).rglob("*_train/*.jpg"))) for name in TASKS]
    assert left == [0, 0, 8 * 4]
