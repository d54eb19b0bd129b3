"""The demo and the lite benchmark, small: whole chains of real commands, and their reports."""

import json
import subprocess
import time

import numpy as np
import pytest
from PIL import Image

from tests.e2e.conftest import command, environment

pytestmark = pytest.mark.slow


def test_demo_is_interrupted_and_goes_on(run, tmp_path):
    out = tmp_path / "demo"
    process = subprocess.Popen(command("demo", "--small", "--out", out), env=environment(), stdout=subprocess.DEVNULL)
    started = time.monotonic()
    while not (out / "done" / "seed1-task1.json").exists():
        assert process.poll() is None and time.monotonic() - started < 120
        time.sleep(0.05)
    process.terminate()
    assert process.wait(timeout=60) == 130
    first = (out / "done" / "seed1-task1.json").stat().st_mtime_ns

    text = run("demo", "--small", "--out", out).stdout
    assert (out / "done" / "seed1-task1.json").stat().st_mtime_ns == first
    report = out / "report"
    assert text.strip().splitlines()[-1] == str(report.resolve())
    for name in ("task 1 (msmt17 only)", "finetune", "sim-res (GD)", "AD"):
        assert f"| {name} |" in text
    assert (report / "table.md").read_text() in text
    found = json.loads((report / "results.json").read_text())["results"]
    evaluated = json.loads((out / "seed1" / "AD" / "eval.json").read_text())["checkpoint.pdparams"]["results"]
    assert found["AD"] == [{line["dataset"]: {"mAP": line["mAP"], "R1": line["cmc"]["1"]} for line in evaluated}]
    for picture in ("mAP", "forgetting", "dreamed", "ranks-msmt17-AD", "ranks-market-finetune", "matches"):
        with Image.open(report / f"{picture}.png") as image:
            assert min(image.size) > 50, picture
    assert (out / "seed1/inference/inference.onnx").is_file()
    with np.load(out / "seed1/matches.npz") as found:
        assert found["nearest"].shape == (len(found["paths"]), 5)


def test_another_setting_does_not_mix_into_a_comparison(run, tmp_path):
    done = tmp_path / "done"
    done.mkdir()
    (done / "data.json").write_text(json.dumps({"command": ["python", "something else"], "seconds": 1}))
    message = run("demo", "--small", "--out", tmp_path, status=2).stderr
    assert "holds a comparison with other settings (stage data)" in message


def test_a_failing_stage_is_named_with_its_last_lines(run, tmp_path):
    (tmp_path / "data").write_text("a file where a folder should be")
    message = run("demo", "--small", "--out", tmp_path, status=2).stderr
    assert "stage data failed with exit status" in message


def test_lite_benchmark_writes_its_page(run, tmp_path):
    docs = tmp_path / "docs"
    run("lite_benchmark", "--small", "--seeds", 1, "--out", tmp_path / "runs", "--docs", docs)
    page = (docs / "lite_benchmark.md").read_text()
    for method in ("finetune", "LwF", "cosine", "res-triangle (GD)", "sim-res (GD)", "AD", "AD-1.0", "joint"):
        assert f"| {method} |" in page
    assert page.count(" < ") == 4 and "--epochs 1" in page
    assert (docs / "images" / "lite_forgetting.png").is_file() and (docs / "images" / "lite_dreamed.png").is_file()
