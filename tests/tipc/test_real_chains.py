"""The chains with the real commands on small data, and what they say when a real part of them is broken."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tipc.conftest import ROOT, results, stages, status_lines

pytestmark = pytest.mark.slow

SMALL = "tests/tipc/configs/small_train_infer_python.txt"
BASELINE = "tests/tipc/configs/small_baseline_train_infer_python.txt"
LITE = "lite_train_lite_infer"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout whose path has a space; only the code is shared with the one that is tested."""
    root = tmp_path_factory.mktemp("checkout") / "with a space"
    shutil.copytree(ROOT / "test_tipc", root / "test_tipc", ignore=shutil.ignore_patterns("output", "__pycache__"))
    for name in ("ppcls", "tools"):
        (root / name).symlink_to(ROOT / name)
    for name in ("deploy", "tests/tipc/configs"):  # a link to deploy would lead `..` out of this checkout
        shutil.copytree(ROOT / name, root / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    python = root / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    return root


def run(root: Path, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    variables = {
        name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX", "VENV")
    }
    return subprocess.run(
        ["bash", f"test_tipc/{script}", *arguments],
        cwd=root, env={**variables, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip


def test_the_whole_chain_runs_on_a_bare_checkout(checkout):
    done = run(checkout, "test_train_inference_python.sh", SMALL, LITE)
    folder = checkout / "test_tipc/output/small" / LITE
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    order = ["lite_data", "task1", "inversion", "train", "evaluate", "export", "inference", "inference"]
    assert stages(folder) == [(name, "successful") for name in (*order, "compare_inference")]
    beginning = "\033[33m Run successfully with command - python ./"
    assert done.stdout.count(beginning) == 9
    lines = status_lines(folder)
    assert any(line.startswith(f"{beginning}tools/main_incrementalX.py --dataset market --previous ") for line in lines)
    metrics = {entry["stage"]: entry["metrics"] for entry in results(folder)["commands"]}
    assert metrics["train"]["pid_loss"] > 0 and metrics["train"]["ips"] > 0
    assert 0 < metrics["evaluate"]["market"]["mAP"] <= 1
    assert metrics["inference"]["inference_time_ms"] > 0
    assert (checkout / "data/lite_data.tar").is_file()


def test_paddleclas_dialect(checkout):
    done = run(checkout, "test_train_inference_python.sh", BASELINE, LITE)
    folder = checkout / "test_tipc/output/small_baseline" / LITE
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    order = ["lite_data", "train", "evaluate", "export", "inference", "inference", "compare_inference"]
    assert stages(folder) == [(name, "successful") for name in order]
    (line,) = [line for line in status_lines(folder) if "tools/main.py" in line]
    log = f"test_tipc/output/small_baseline/{LITE}/norm_train_gpus_-1_autocast_null_nodes_1.log"
    assert line.startswith("\033[33m Run successfully with command - small_baseline - python tools/main.py -g cpu ")
    assert line.endswith(f" - {log} ! \033[0m")


@pytest.mark.parametrize("cards", ["N1C1", "N1C2"])
def test_benchmark(checkout, cards):
    done = run(checkout, "benchmark_train.sh", BASELINE, "benchmark_train", f"dynamic_bs16_fp32_DP_{cards}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    folder = checkout / "test_tipc/output/small_baseline/benchmark_train"
    (index,) = (folder / "index").iterdir()
    found = json.loads(index.read_text())
    assert found["ips"] > 0 and found["convergence_value"] > 0 and found["device_num"] == cards
    name = f"small_baseline_bs16_fp32_DP_{cards}"
    assert (folder / "train_log" / f"ppcls_{name}_log").is_file()
    assert (folder / f"{name}_profiling/profile").is_dir() == (cards == "N1C1")


def test_onnx(checkout):
    done = run(checkout, "test_paddle2onnx.sh", "test_tipc/configs/AGD/paddle2onnx_infer_python.txt")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    folder = checkout / "test_tipc/output/AGD/paddle2onnx_infer"
    order = ["reference", "paddle2onnx", "inference", "compare_embeddings"]
    assert stages(folder) == [(name, "successful") for name in order]


def test_serving(checkout):
    pytest.importorskip("fastapi", reason="the service needs the packages of requirements-serving.txt")
    config = "test_tipc/configs/AGD/serving_infer_python.txt"
    done = run(checkout, "test_serving_infer_python.sh", config, "serving_infer")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    folder = checkout / "test_tipc/output/AGD/serving_infer"
    order = ["reference", "export", "convert", "client", "server", "compare_embeddings"]
    assert stages(folder) == [(name, "successful") for name in order]


@pytest.fixture(scope="module")
def exported(checkout):
    """An exported model of seeded weights, and the folder name it has in the checkout."""
    for words in (
        ["test_tipc/make_reference.py", "--out", "reference", "--height", "64", "--width", "32"],
        ["tools/export_model.py", "--ckpt", "reference", "--save-inference-dir", "exported"]
        + ["--images", "test_tipc/results/images"],
    ):
        done = subprocess.run([sys.executable, *words], cwd=checkout, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return "exported"


def infer_only(checkout: Path, model: str, **replaced: str) -> subprocess.CompletedProcess[str]:
    """whole_infer of a model that is exported already, with words of the configuration replaced."""
    lines = (checkout / SMALL).read_text(encoding="utf-8").splitlines()
    lines[23:25] = [f"train_model:{model}", "infer_export:null"]
    text = "\n".join(lines)
    for old, new in replaced.items():
        text = text.replace(f"{{{old}}}", new)
    (checkout / "infer.txt").write_text(text, encoding="utf-8")
    return run(checkout, "test_train_inference_python.sh", "infer.txt", "whole_infer")


def test_a_broken_model_fails_the_chain(exported, checkout):
    shutil.copytree(checkout / exported, checkout / "broken")
    weights = checkout / "broken/inference.pdiparams"
    weights.write_bytes(weights.read_bytes()[:1000])
    done = infer_only(checkout, "broken")
    assert done.returncode == 1 and "Run failed with command - python ./deploy/inference_python" in done.stdout
    assert "Traceback" not in done.stdout
    found = stages(checkout / "test_tipc/output/small/whole_infer")
    assert found[1:] == [("inference", "failed"), ("inference", "not run"), ("compare_inference", "not run")]


def test_other_embeddings_than_the_ground_truth_fail_the_chain(exported, checkout):
    truth = (checkout / "test_tipc/results/python_AGD_embeddings_fp32.txt").read_text().splitlines()
    name, text = truth[0].split("\t")
    numbers = json.loads(text)
    numbers["embedding"][3] += 0.5
    (checkout / "wrong_fp32.log").write_text("\n".join([f"{name}\t{json.dumps(numbers)}", *truth[1:]]))
    done = infer_only(checkout, exported, first_infer="wrong_fp32")
    assert done.returncode == 1, done.stdout
    assert "Run failed with command - python ./test_tipc/compare_results.py" in done.stdout
    assert f"{name}: 1 of 512 numbers differ, the most at 3" in done.stdout
