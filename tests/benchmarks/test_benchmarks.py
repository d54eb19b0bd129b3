"""The comparisons run without PyTorch, count arithmetic rightly, and with PyTorch both sides do the same work."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import paddle
import pytest
from paddle import nn

from benchmarks import _measure, _table
from benchmarks._workload import Job, forward_flops, step_flops
from ppcls.arch.reid_net import build_net
from ppcls.utils.errors import UserError

FOLDER = Path(__file__).parents[2] / "benchmarks"
TASKS = {"training": ("train", "ad"), "inversion": ("inversion",), "gemm": ("gemm",)}


def run(name, *flags):
    argv = [sys.executable, str(FOLDER / f"{name}.py"), *flags]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def without_peer(tmp_path_factory):
    """(figures, Markdown) of everything that trains, dreams or ranks, at toy size."""
    path = tmp_path_factory.mktemp("figures") / "results.json"
    flags = ["--small", "--threads", "2", "--torch-python", "none", "--only", *TASKS, "ranking"]
    done = run("run_all", *flags, "--output", str(path))
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text()), done.stdout


@pytest.mark.slow
def test_all_comparisons_run_without_the_peer(without_peer):
    figures, markdown = without_peer
    assert {name: tuple(figures[name]) for name in TASKS} == TASKS
    for results in (figures[name] for name in TASKS):
        for task, result in results.items():
            assert result["no_peer"] == "left out by --torch-python none"
            assert list(result["rows"]) == ["ours", *([] if task == "gemm" else ["parallel"]), "untuned"]
            assert all(row["ratio_best"] is None for row in result["rows"].values())
    assert markdown.count("PyTorch skipped: left out") == 4
    assert markdown.count("| – |") == 3 + 3 + 3 + 2
    assert all(found["agree"] for found in figures["ranking"].values())


@pytest.mark.slow
def test_figures_follow_from_the_measured_seconds(without_peer):
    for task, images in (("train", 16), ("ad", 32)):
        for row in without_peer[0]["training"][task]["rows"].values():
            assert row["best"] == row["median"] == pytest.approx(images / row["seconds"][0])
            assert len(row["seconds"]) == 1
    shards = without_peer[0]["inversion"]["inversion"]["rows"]["parallel"]
    assert shards["best"] == pytest.approx(2 * 16 / shards["seconds"][0])


@pytest.mark.slow
def test_rows_are_what_their_labels_say(without_peer):
    rows = without_peer[0]["training"]["train"]["rows"]
    assert "CPU tuning: 2 threads" in rows["ours"]["about"]
    assert "CPU tuning: 1 threads" in rows["parallel"]["about"]
    assert "CPU tuning: off" in rows["untuned"]["about"]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["train", "ad", "inversion"])
def test_both_sides_print_the_same_losses(task):
    python, reason = _measure.find_torch(None)
    if python is None:
        pytest.skip(reason)
    job = replace(Job(task, 1), depth=50, height=64, width=32, steps=2, gemm=0)
    rows = _measure.Row("ours", "ours", sys.executable), _measure.Row("peer", "PyTorch", python, "_torch_peer.py")
    found = _measure.losses({row.key: [_measure.run_once(row, job)] for row in rows})
    assert found["difference"] < _measure.TOLERANCE
    assert found["ours"][2] < found["ours"][1] < found["ours"][0] or task == "inversion"


@pytest.mark.parametrize(("depth", "macs"), [(18, 1.814e9), (34, 3.664e9), (50, 4.089e9)])
def test_operations_are_the_published_ones(depth, macs):
    """torchvision's counts at 224 x 224, which include a classifier of 1000 classes."""
    head = 1000 * (2048 if depth == 50 else 512)
    assert sum(forward_flops(depth, 224, 224)) / 2 + head == pytest.approx(macs, rel=1e-3)


@pytest.mark.parametrize(("depth", "height", "width"), [(18, 64, 32), (50, 50, 31)])
def test_operations_are_those_of_our_network(depth, height, width):
    seen = {}

    def count(layer, inputs, output):
        seen[layer] = 2 * layer.weight.size * output.shape[2] * output.shape[3]

    net = build_net(depth=depth)
    net.eval()
    for layer in net.sublayers():
        if isinstance(layer, nn.Conv2D):
            layer.register_forward_post_hook(count)
    with paddle.no_grad():
        net(paddle.zeros([1, 3, height, width]))
    assert (seen[net.backbone.base.conv1], sum(seen.values())) == (
        forward_flops(depth, height, width)[0],
        sum(forward_flops(depth, height, width)),
    )


def test_steps_count_the_gradients_they_need():
    job = Job("train", 1, batch=16)
    stem, rest = forward_flops(50, 256, 128)
    assert step_flops(job) == 16 * (2 * stem + 3 * rest)
    assert step_flops(replace(job, task="inversion")) == 16 * 2 * (stem + rest)
    assert step_flops(replace(job, task="ad")) == 2 * step_flops(job) + 16 * (stem + rest)


def result_of(seconds, loss):
    """A comparison of hand-written reports, ours and the peer's."""
    job = Job("train", 2, batch=16, warmup=1)
    rows = {"ours": _measure.Row("ours", "ours", "python"), "peer": _measure.Row("peer", "PyTorch", "python")}
    reports = {
        key: [{"about": key, "seconds": [9.0, *seconds[key]], "losses": [5.0, loss[key]], "gemm": 100.0, "peak": 2**30}]
        for key in rows
    }
    return _measure.summed_up(job, rows.values(), reports)


def test_ratios_are_best_by_best_and_median_by_median():
    result = result_of({"ours": [2.0, 4.0, 4.0], "peer": [1.0, 3.0, 8.0]}, {"ours": 4.0, "peer": 4.0})
    ours = result["rows"]["ours"]
    assert (ours["best"], ours["median"]) == (8.0, 4.0)
    assert (ours["ratio_best"], ours["ratio_median"]) == (0.5, 0.75)
    assert ours["fraction"] == pytest.approx(step_flops(Job("train", 2)) / 2.0 / 100e9)
    assert result["agree"]


def test_different_losses_are_noticed():
    result = result_of({"ours": [1.0], "peer": [1.0]}, {"ours": 4.0, "peer": 4.01})
    assert not result["agree"]
    assert result["losses"]["difference"] == pytest.approx(0.01 / 4.01)
    assert not result_of({"ours": [1.0], "peer": [1.0]}, {"ours": float("nan"), "peer": 4.0})["agree"]


def test_a_users_mistakes_are_one_line():
    with pytest.raises(UserError, match="no such|No such"):
        _measure.find_torch("/no/such/python")
    done = run("gemm", "--batch", "10", "--torch-python", "none")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "multiple of 16" in done.stderr


def test_children_get_no_stray_settings(monkeypatch):
    for name in ("MKL_DEBUG_CPU_TYPE", "MALLOC_MMAP_MAX_", "PPCLS_CPU_TUNING"):
        monkeypatch.setenv(name, "0")
    inherited = _measure.environment(2)
    assert not {"MKL_DEBUG_CPU_TYPE", "MALLOC_MMAP_MAX_", "PPCLS_CPU_TUNING"} & set(inherited)
    assert inherited["OMP_NUM_THREADS"] == "2"


def test_the_text_table_has_a_line_for_each_row():
    result = result_of({"ours": [2.0], "peer": [1.0]}, {"ours": 4.0, "peer": 4.0})
    lines = _table.text(result | {"title": "step", "repeat": 1, "no_peer": ""}).splitlines()
    assert [line.split()[:2] for line in lines if "GiB" in line] == [["ours", "8.00"], ["PyTorch", "16.00"]]
    assert any("0.50x" in line for line in lines)
