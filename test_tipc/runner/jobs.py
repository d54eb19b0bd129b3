"""What each script does: plan, run, report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from test_tipc.runner.benchmark import (
    LIMIT_SECONDS,
    Analysis,
    default_params,
    measurement,
    parse_params,
    preliminaries,
)
from test_tipc.runner.chain import Chain, Check, Single, Step
from test_tipc.runner.commands import Command
from test_tipc.runner.config import Config, read_config
from test_tipc.runner.data import check_data
from test_tipc.runner.dialects import CLAS
from test_tipc.runner.modes import BENCHMARK, ONNX, SERVING, TRAIN_MODES, check_mode
from test_tipc.runner.onnx import onnx_plan
from test_tipc.runner.output import OUTPUT_ROOT, fresh_folder
from test_tipc.runner.serving import require_no_url, serving_plan
from test_tipc.runner.status import Report
from test_tipc.runner.train_infer import Job, plan, prepare_commands

_KIND_MODES = {
    "train_params": (*TRAIN_MODES, BENCHMARK),
    "serving_params": (SERVING,),
    "paddle2onnx_params": (ONNX,),
}

Environment = Mapping[str, str]


def train_infer(path: str, mode: str, gpu: str | None, environment: Environment) -> int:
    """``test_train_inference_python.sh``. Returns the exit status."""
    config = read_config(path, "train_params")
    check_mode(mode, TRAIN_MODES)
    job = open_job(config, mode)
    commands = plan(job, gpu)
    steps = [*preparation(job, commands), *map(Single, commands)]
    return run_job(job, "results_python.log", steps, environment)


def prepare(path: str, mode: str, environment: Environment) -> int:
    """``prepare.sh``: make what can be made, check what must be there. Returns the exit status."""
    config = read_config(path)
    check_mode(mode, _KIND_MODES[config.layout.kind])
    job = open_job(config, mode, folder=f"prepare_{mode}")
    if mode not in TRAIN_MODES:
        return run_job(job, "results_prepare.log", preparation(job, []), environment)
    commands = plan(job)
    return run_job(job, "results_prepare.log", preparation(job, commands), environment)


def serving(path: str, mode: str, gpu: str | None, environment: Environment) -> int:
    """``test_serving_infer_python.sh``. Returns the exit status."""
    config = read_config(path, "serving_params")
    check_mode(mode, (SERVING,))
    job = open_job(config, mode)
    require_no_url(job)
    steps = [*preparation(job, []), *serving_plan(job, gpu)]
    log = "results_serving.log" if config.layout.dialect == CLAS else "serving_infer_python.log"
    return run_job(job, log, steps, environment)


def paddle2onnx(path: str, mode: str, environment: Environment) -> int:
    """``test_paddle2onnx.sh``. Returns the exit status."""
    config = read_config(path, "paddle2onnx_params")
    check_mode(mode, (ONNX,))
    job = open_job(config, mode)
    require_no_url(job)
    commands = onnx_plan(job)
    return run_job(job, "results_paddle2onnx.log", [*preparation(job, commands), *map(Single, commands)], environment)


def benchmark(path: str, mode: str, params: str | None, environment: Environment) -> int:
    """``benchmark_train.sh``. Returns the exit status."""
    config = read_config(path, "train_params")
    check_mode(mode, (BENCHMARK,))
    job = open_job(config, mode)
    wanted = [parse_params(params)] if params else default_params(config, mode)
    measured = [measurement(job, one, environment) for one in wanted]
    commands = preliminaries(job)
    runs = [command for one in measured for command in (one.profiling, one.training) if command]
    steps = [*preparation(job, [*commands, *runs]), *map(Single, commands)]
    for one in measured:
        steps.append(Check(f"clear: earlier files of {one.item.name}", one.clear))
        steps += [Single(command, LIMIT_SECONDS) for command in (one.profiling, one.training) if command]
        steps.append(Analysis(one))
    return run_job(job, "results_benchmark.log", steps, environment)


def open_job(config: Config, mode: str, folder: str | None = None) -> Job:
    """A job with its output folder ``test_tipc/output/<model_name>/<mode>``."""
    name = config.required("model_name", mode)
    return Job(config, mode, OUTPUT_ROOT / name / (folder or mode))


def preparation(job: Job, commands: Sequence[Command]) -> list[Step]:
    """Steps before a plan: lite data where the mode reads them, then a look whether all data are there.

    Raises:
        UserError: data are missing in a mode that makes none; before anything is run or moved.
    """
    steps: list[Step] = [Single(command) for command in prepare_commands(job)]
    if not steps:
        check_data(commands)
        return []
    return [*steps, Check("check: the data that the commands read", lambda: check_data(commands))]


def run_job(
    job: Job,
    log: str,
    steps: Sequence[Step],
    environment: Environment,
) -> int:
    """Run steps in the job's folder, which is emptied first; whole runs are kept beside. Returns the exit status."""
    with fresh_folder(job.output, keep=job.mode.startswith("whole_")):
        report = Report(
            job.output / log, job.config.layout.dialect, job.config.required("model_name", job.mode), _header(job)
        )
        return Chain(report, environment).run(steps)


def _header(job: Job) -> dict[str, Any]:
    return {"config": job.config.path, "dialect": job.config.layout.dialect, "mode": job.mode}
