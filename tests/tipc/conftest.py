"""Stand-in programs and configurations, so that chains run in a second."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import pytest

from test_tipc.runner import jobs
from test_tipc.runner.dialects import Layout

ROOT = Path(__file__).resolve().parents[2]

#: Notes its arguments, leaves what the command it stands for would leave, and fails where it is told to.
STAND_IN = """
import json, pathlib, sys, time
words = sys.argv[1:]
def after(flag):
    for word, value in zip(words, words[1:]):
        if word == flag:
            return value
        if word == "-o" and value.startswith(flag[2:].replace("-", "_") + "="):
            return value.partition("=")[2]
with open(CALLS, "a") as calls:
    calls.write(json.dumps([pathlib.Path(sys.argv[0]).name, *words]) + "\\n")
print("working as", sys.argv[0])
if "--die" in words:
    print("it went wrong", file=sys.stderr)
    sys.exit(7)
if "--sleep" in words:
    time.sleep(60)
if "--lazy" not in words:
    run = after("--logs-dir")
    if run:
        pathlib.Path(run).mkdir(parents=True)
        for number in range(12):
            speed = 4.0 if number % 2 else 12.0
            print(f"Epoch: [1][{number + 1}/12], Pid Loss: {2 - number / 10:.4f}/0.5, ips: {speed} images/s")
        pathlib.Path(run, "checkpoint.pdparams").write_text("weights")
        record = {"kind": "train", "pid_loss": 0.5, "ips": 8.0}
        pathlib.Path(run, "metrics.jsonl").write_text(json.dumps(record) + "\\n")
        line = {"dataset": "market", "mAP": 0.25, "cmc": {"1": 0.5}}
        pathlib.Path(run, "eval.json").write_text(json.dumps({"checkpoint.pdparams": {"results": [line]}}))
    model = after("--save-inference-dir")
    if model:
        pathlib.Path(model).mkdir(parents=True)
    if "--show" in words:
        print('a.jpg\\t{"embedding": [1.0, 2.0]}')
        print(" preprocess_time(ms): 1.5, inference_time(ms): 20, postprocess_time(ms): 0.1")
"""

TEMPLATE = """\
==========train_params==========
model_name:toy
python:python
gpu_list:-1
use-gpu:null
--epochs:lite_train_lite_infer=2|whole_train_whole_infer=80
--logs-dir:null
--batch-size:8
--pretrained:null
train_model_name:checkpoint.pdparams
--data-root:null
##
trainer:norm_train
norm_train:train.py --seed 1
##
==========eval_params==========
eval:evaluate.py
##
==========infer_params==========
--save-inference-dir:./inference
--ckpt:null
norm_export:export.py
##
train_model:weights.pdparams
infer_export:export.py --whole
##
inference:infer.py --show
--use-gpu:False
--batch-size:1|16
--model-dir:null
--img-path:images
--benchmark:True
==========before_params==========
task1:first.py --out {output}/task1
--steps:0 20
==========after_eval_params==========
look:look.py {run}/eval.json
==========after_params==========
last:last.py {first_infer}.log
"""

#: Stage → the words of TEMPLATE that name its program.
PROGRAMS = {
    "task1": "first.py",
    "train": "train.py --seed 1",
    "evaluate": "eval:evaluate.py",
    "look": "look.py",
    "export": "norm_export:export.py",
    "inference": "infer.py --show",
    "last": "last.py",
}


def file_of(layout: Layout, **values: str) -> list[str]:
    """Lines of a file with this layout: each key in its first spelling, ``null`` where no value is given."""
    lines = []
    for slot in layout.slots:
        if slot.is_banner:
            lines.append(f"====={slot.keys[0]}=====")
        elif slot.is_separator:
            lines.append("##")
        else:
            lines.append(f"{slot.keys[0]}:{values.get(slot.field, 'null')}")
    return lines


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to run chains in, its name with a space; ``run`` runs TEMPLATE with words replaced."""
    folder = tmp_path / "a place"
    (folder / "bin").mkdir(parents=True)
    (folder / "images").mkdir()
    calls = folder / "calls.jsonl"
    for name in ("first", "train", "evaluate", "look", "export", "infer", "last", "convert", "client"):
        (folder / f"{name}.py").write_text(STAND_IN.replace("CALLS", repr(str(calls))), encoding="utf-8")
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    monkeypatch.chdir(folder)
    environment = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}

    def write(text: str, replace: dict[str, str] | None = None, name: str = "config.txt") -> str:
        for old, new in (replace or {}).items():
            assert old in text, old
            text = text.replace(old, new)
        (folder / name).write_text(text, encoding="utf-8")
        return name

    def run(replace: dict[str, str] | None = None, mode: str = "lite_train_lite_infer", gpu: str | None = None) -> int:
        return jobs.train_infer(write(TEMPLATE, replace), mode, gpu, environment)

    return SimpleNamespace(
        folder=folder,
        environment=environment,
        write=write,
        run=run,
        calls=lambda: [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else [],
        output=folder / "test_tipc/output/toy",
    )


def results(folder: Path) -> dict:
    """``results.json`` of a run."""
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def stages(folder: Path) -> list[tuple[str, str]]:
    """(stage, status) of every command of a run."""
    return [(entry["stage"], entry["status"]) for entry in results(folder)["commands"]]


def status_lines(folder: Path, log: str = "results_python.log") -> Sequence[str]:
    """The lines of a run's log, colours and all."""
    return (folder / log).read_text(encoding="utf-8").splitlines()
