"""The benchmark report: figures, and the lines that other tools look for."""

from __future__ import annotations

import re

import numpy as np
import pytest

from ppcls.utils.benchmark_log import STAGES, BenchmarkLog, environment, package_version, peak_memory_mb


@pytest.fixture
def log() -> BenchmarkLog:
    log = BenchmarkLog({"Env info": environment(), "Model info": {"model_name": "reid", "precision": "fp32"}})
    for number in range(1, 101):
        log.add(4, preprocess=number / 1000, inference=2 * number / 1000, postprocess=0.0)
    return log


def test_figures_are_means_and_percentiles_of_batches(log):
    found = log.figures(8.0)
    assert (found["images"], found["images_per_s"], found["total_s"]) == (400, 50.0, 8.0)
    assert found["preprocess_ms"] == pytest.approx(50.5) and found["inference_ms"] == pytest.approx(101)
    milliseconds = np.arange(1, 101)
    for percentile in (50, 90, 99):
        expected = float(np.percentile(milliseconds, percentile))
        assert found[f"preprocess_ms_p{percentile}"] == pytest.approx(expected)
        assert found[f"inference_ms_p{percentile}"] == pytest.approx(2 * expected)
    assert found["postprocess_ms_p99"] == 0


def test_the_last_lines_are_those_of_autolog(log):
    lines = [line.strip() for line in log.lines(8.0)]
    assert re.fullmatch(r"cpu_rss\(MB\): [\d.]+, gpu_rss\(MB\): None, gpu_util: None%", lines[-3])
    assert lines[-2] == "total time spent(s): 8.0000"
    assert lines[-1] == "preprocess_time(ms): 50.5000, inference_time(ms): 101.0000, postprocess_time(ms): 0.0000"
    titles = [line.strip("- ") for line in lines if line.startswith("---")]
    assert titles == ["Env info", "Model info", "Perf info"]
    assert "model_name: reid" in lines and "ips: 50.000 images/s" in lines
    assert (
        sum(line.startswith(tuple(f"{stage}_time(ms) of 100 batches: p50: " for stage in STAGES)) for line in lines)
        == 3
    )


def test_nothing_measured_is_no_mistake():
    assert BenchmarkLog({}).lines(1.0)[-1].strip().startswith("preprocess_time(ms): 0.0000")


def test_memory_grows_with_what_is_held():
    before = peak_memory_mb()
    held = np.ones(64 << 20, np.uint8)
    assert peak_memory_mb() >= before and peak_memory_mb() > held.nbytes / 2**20


def test_versions_without_importing():
    assert package_version("numpy") == np.__version__ and package_version("no such package") == "None"
