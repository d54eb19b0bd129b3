"""The training benchmark: grammar of its parameters, its commands, its analysis."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppcls.utils.errors import UserError
from test_tipc.runner import jobs
from test_tipc.runner.analysis import Item, analyse, numbers_after, speed
from test_tipc.runner.benchmark import Params, parse_params
from tests.tipc.conftest import TEMPLATE, results, stages

MODE = "benchmark_train"
SECTION = (
    "\n=====train_benchmark_params=====\nbatch_size:8|32\nfp_items:fp32\nepoch:1\n--profile:3\nskip_steps:2\n"
    "flags:FLAGS_one=1;FLAGS_two=b\nconvergence_key:Pid Loss\n"
)
KEYS = {
    "model_branch", "model_commit", "model_name", "batch_size", "fp_item", "run_process_type", "run_mode",
    "convergence_value", "convergence_key", "ips", "speed_unit", "device_num", "model_run_time", "frame_commit",
    "frame_version",
}  # fmt: skip


@given(st.booleans(), st.integers(1, 4096), st.sampled_from(["fp32", "fp16", "null"]), st.integers(1, 64))
def test_the_third_argument_follows_the_grammar(static, batch, precision, cards):
    text = f"{'dynamicTostatic' if static else 'dynamic'}_bs{batch}_{precision}_DP_N1C{cards}"
    assert parse_params(text) == Params(static, batch, precision, cards)


@pytest.mark.parametrize(
    "text",
    ["", "dynamic", "static_bs8_fp32_DP_N1C1", "dynamic_bs8_fp64_DP_N1C1", "dynamic_bs8_fp32_MP_N1C1",
     "dynamic_bs8_fp32_DP_N1C1_more", "dynamic_bs0_fp32_DP_N1C1", "dynamic_bs8_fp32_DP_N2C1",
     "dynamic_bs8_fp32_DP_N1C0"],
)  # fmt: skip
def test_anything_else_is_an_error_that_names_it(text):
    with pytest.raises(UserError, match=f"'{text}': "):
        parse_params(text)


def test_numbers_behind_a_keyword():
    text = "Pid Loss: 2.5000/9.9, ips: 12.5 images/s\nips:3e1,\nips: slow\nPid Loss: nan/1"
    assert numbers_after(text, "ips:") == [12.5, 30.0]
    assert str(numbers_after(text, "Pid Loss:")) == "[2.5, nan]"


def test_speed_is_all_samples_by_all_time():
    assert speed([1.0, 1.0, 10.0, 30.0], 2) == pytest.approx(15)  # n samples in n/10 s, then n in n/30 s
    with pytest.raises(UserError, match="the log has 2 steps and 2 are skipped"):
        speed([1.0, 1.0], 2)
    with pytest.raises(UserError, match="no positive numbers"):
        speed([1.0, 0.0], 0)


def test_a_log_without_speed_is_an_error(tmp_path):
    item = Item("toy", 8, "fp32", "SingleP", "DP", "N1C1")
    with pytest.raises(UserError, match="no log"):
        analyse(tmp_path / "none", item)
    (tmp_path / "log").write_text("nothing")
    with pytest.raises(UserError, match="holds no 'ips:'"):
        analyse(tmp_path / "log", item)


def run(place, params=None, replace=None, **environment):
    name = place.write(TEMPLATE + SECTION, replace)
    return jobs.benchmark(name, MODE, params, {**place.environment, **environment})


def test_profiling_training_and_figures(place):
    logs = place.folder / "my logs"
    (logs / "index").mkdir(parents=True)
    (logs / "index" / "another_speed").write_text("kept")
    assert run(place, "dynamic_bs8_fp32_DP_N1C1", BENCHMARK_LOG_DIR=str(logs)) == 0
    assert [name for name, _ in stages(place.output / MODE)] == ["task1", "profiling", "train"]
    first, profiling, training = place.calls()
    assert first[0] == "first.py"
    folder = f"test_tipc/output/toy/{MODE}/toy_bs8_fp32_DP_N1C1"
    common = ["--epochs", "1", "--batch-size", "8"]
    assert training == ["train.py", "--seed", "1", "--logs-dir", folder, *common]
    assert profiling == ["train.py", "--seed", "1", "--logs-dir", f"{folder}_profiling", *common, "--profile", "3"]
    name = "ppcls_toy_bs8_fp32_DP_N1C1"
    assert (logs / "profiling_log" / f"{name}_profiling").is_file() and (logs / "train_log" / f"{name}_log").is_file()
    found = json.loads((logs / "index" / f"{name}_speed").read_text())
    assert found.keys() >= KEYS
    assert found["ips"] == pytest.approx(6.0)  # steps of equal size at 4 and 12 images a second, in turn
    assert (found["convergence_value"], found["convergence_key"]) == (0.9, "Pid Loss:")
    assert (found["run_process_type"], found["device_num"], found["fp_item"]) == ("SingleP", "N1C1", "fp32")
    assert (found["steps"], found["skip_steps"], found["frame_version"]) == (12, 2, "3.3.1")
    assert found["model_run_time"] >= 0 and (logs / "index" / "another_speed").read_text() == "kept"


def test_without_parameters_the_lists_of_the_file_are_measured(place):
    assert run(place) == 0
    names = {path.name for path in (place.output / MODE / "index").iterdir()}
    assert names == {"ppcls_toy_bs8_fp32_DP_N1C1_speed", "ppcls_toy_bs32_fp32_DP_N1C1_speed"}


def test_mixed_precision_and_two_processes(place):
    python = place.folder / "bin/python"
    launched = f'[ "$1" = -m ] && echo "$@" >> launched && shift 6\n{python.read_text().splitlines()[1]}'
    python.write_text(f"#!/bin/sh\n{launched}\n", encoding="utf-8")
    assert run(place, "dynamic_bs8_fp16_DP_N1C2") == 0
    assert "paddle.distributed.launch --nproc_per_node 2 --log_dir" in (place.folder / "launched").read_text()
    assert place.calls()[-1][-2:] == ["--amp", "O1"]
    (index,) = (place.output / MODE / "index").iterdir()
    assert json.loads(index.read_text())["run_process_type"] == "MultiP"


def test_variables_of_the_file_reach_the_training(place):
    program = place.folder / "train.py"
    program.write_text(program.read_text() + "\nimport os; print(os.environ['FLAGS_one'], os.environ['FLAGS_two'])")
    assert run(place, "dynamic_bs8_fp32_DP_N1C1") == 0
    assert "1 b\n" in (place.output / MODE / "train_log" / "ppcls_toy_bs8_fp32_DP_N1C1_log").read_text()


@pytest.mark.parametrize(
    ("params", "replace", "message"),
    [
        ("dynamicTostatic_bs8_fp32_DP_N1C1", {}, "dynamicTostatic needs the line to_static_train"),
        (None, {"skip_steps:2": "skip_steps:two"}, "expected a number of steps"),
        (None, {"FLAGS_one=1": "FLAGS_one"}, "expected NAME=value"),
        (None, {"skip_steps:2": "skip_steps:12"}, "the log has 12 steps and 12 are skipped"),
        (None, {"fp_items:fp32": "fp_items:bf16"}, "'dynamic_bs8_bf16_DP_N1C1': expected"),
    ],
)
def test_mistakes(place, params, replace, message):
    with pytest.raises(UserError, match=message):
        run(place, params, replace)


@pytest.mark.parametrize("program", ["first.py", "train.py --seed 1"])
def test_a_broken_script_fails_the_benchmark(place, program):
    assert run(place, "dynamic_bs8_fp32_DP_N1C1", {program: f"{program} --die"}) == 1
    assert results(place.output / MODE)["status"] == "failed"
    log = (place.output / MODE / "results_benchmark.log").read_text()
    assert f"Run failed with command - python {program} --die" in log
    assert not (place.output / MODE / "index").exists()


def test_an_old_figure_is_gone_when_the_training_fails(place):
    assert run(place, "dynamic_bs8_fp32_DP_N1C1", BENCHMARK_LOG_DIR="logs") == 0
    index = place.folder / "logs/index/ppcls_toy_bs8_fp32_DP_N1C1_speed"
    assert index.is_file()
    assert run(place, "dynamic_bs8_fp32_DP_N1C1", {"--seed 1": "--seed 1 --die"}, BENCHMARK_LOG_DIR="logs") == 1
    assert not index.exists()
