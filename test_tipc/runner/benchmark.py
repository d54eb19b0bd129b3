"""``benchmark_train.sh``: training with and without the profiler, and the speed of the second run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_write_json
from ppcls.utils.logger import get_logger
from test_tipc.runner.analysis import Item, analyse
from test_tipc.runner.chain import Chain
from test_tipc.runner.commands import Command, flag_words, line_words
from test_tipc.runner.config import BEFORE, Config, Line
from test_tipc.runner.train_infer import Job, train_command, training_runs

LIMIT_SECONDS = 300.0
"""A training is stopped after five minutes; its speed is that of the steps done until then."""

DEFAULT_SKIP_STEPS = 5
_PARAMS = re.compile(r"(dynamic|dynamicTostatic)_bs(\d+)_(fp32|fp16|null)_DP_N(\d+)C(\d+)")
_REPOSITORY = "ppcls"


@dataclass(frozen=True)
class Params:
    """``<dynamic|dynamicTostatic>_bs<N>_<fp32|fp16|null>_DP_<NxCy>``."""

    static: bool
    batch_size: int
    precision: str
    processes: int

    @property
    def device_num(self) -> str:
        """One machine, so many processes."""
        return f"N1C{self.processes}"


def parse_params(text: str) -> Params:
    """Read the script's third argument.

    Raises:
        UserError: it does not follow the grammar, or asks for several machines.
    """
    match = _PARAMS.fullmatch(text)
    if match is None:
        raise UserError(
            f"'{text}': expected <dynamic|dynamicTostatic>_bs<N>_<fp32|fp16|null>_DP_<NxCy>, "
            "for example dynamic_bs8_fp32_DP_N1C1"
        )
    process, batch, precision, machines, cards = match.groups()
    if machines != "1":
        raise UserError(f"'{text}': one machine is supported (N1)")
    if int(cards) < 1 or int(batch) < 1:
        raise UserError(f"'{text}': batch size and number of processes must be at least 1")
    return Params(process == "dynamicTostatic", int(batch), precision, int(cards))


def default_params(config: Config, mode: str) -> list[Params]:
    """Without a third argument: the product of the lists in train_benchmark_params, one process each.

    Raises:
        UserError: the configuration has no such section.
    """
    if not config.benchmark:
        raise UserError(
            f"{config.path} has no section train_benchmark_params; name what to run, such as dynamic_bs8_fp32_DP_N1C1"
        )
    get = lambda key: config.benchmark.get(key, Line(key, None, path=config.path))  # noqa: E731
    found = []
    for model_type in get("model_type").items(mode):
        for batch in get("batch_size").items(mode):
            for precision in get("fp_items").items(mode):
                process = "dynamicTostatic" if model_type == "to_static_train" else "dynamic"
                found.append(parse_params(f"{process}_bs{batch}_{precision or 'fp32'}_DP_N1C1"))
    return found


@dataclass(frozen=True)
class Measurement:
    """The runs of one set of parameters and the files they leave."""

    params: Params
    item: Item
    folder: Path
    profiling: Command | None
    training: Command
    skip_steps: int
    convergence_key: str

    @property
    def index(self) -> Path:
        """Where the figures go."""
        return self.folder / "index" / f"{_REPOSITORY}_{self.item.name}_speed"

    def clear(self) -> None:
        """Remove what an earlier run of the same parameters left; a log folder of the user's may hold others' files."""
        for path in (self.index, self.training.log, self.profiling and self.profiling.log):
            if path:
                path.unlink(missing_ok=True)

    def write_index(self, seconds: float) -> None:
        """Analyse the training's log and write ``index/<name>_speed``."""
        found = analyse(
            self.training.log,
            self.item,
            skip_steps=self.skip_steps,
            convergence_key=self.convergence_key,
            seconds=seconds,
        )
        atomic_write_json(self.index, found)
        get_logger().info("%s: %s %s, %s", self.item.name, found["ips"], found["speed_unit"], self.index)


class Analysis:
    """The step that reads a finished training's log."""

    commands = ()

    def __init__(self, measured: Measurement) -> None:
        self.measured = measured
        self.title = f"analysis: {measured.item.name}"

    def run(self, chain: Chain) -> None:
        self.measured.write_index(chain.report.seconds_of(self.measured.training))


def log_folder(job: Job, environment: Mapping[str, str]) -> Path:
    """BENCHMARK_LOG_DIR, or the output folder."""
    return Path(environment.get("BENCHMARK_LOG_DIR") or job.output)


def preliminaries(job: Job) -> list[Command]:
    """Stages before the training that is measured."""
    return job.blocks(BEFORE, job.places())


def measurement(job: Job, params: Params, environment: Mapping[str, str]) -> Measurement:
    """The commands for ``params``: the configuration's training with these values in place of its own."""
    own = replace(job, config=_edited(job.config, params))
    run = training_runs(own)[0]
    folder = log_folder(job, environment)
    item = Item(
        own.config.required("model_name", job.mode),
        params.batch_size,
        params.precision,
        "SingleP" if params.processes == 1 else "MultiP",
        "DP",
        params.device_num,
    )
    name = f"{_REPOSITORY}_{item.name}"
    env = _flags_env(job)
    more = _more(job, params)
    training = train_command(own, run, more, item.name)
    training = replace(training, log=folder / "train_log" / f"{name}_log", makes=(), env={**training.env, **env})
    profile = own.config.benchmark.get("--profile") or own.config.benchmark.get("--profiler_options")
    profiling = None
    if profile is not None and profile.value is not None and params.processes == 1:
        command = train_command(own, run, [*more, *line_words(profile, job.mode)], f"{item.name}_profiling")
        profiling = replace(
            command,
            stage="profiling",
            log=folder / "profiling_log" / f"{name}_profiling",
            makes=(),
            env={**command.env, **env},
        )
    return Measurement(params, item, folder, profiling, training, _skip_steps(job), _convergence_key(job))


def _edited(config: Config, params: Params) -> Config:
    lines = dict(config.lines)
    # On a machine without a GPU C2 are two processes; the configuration says which kind of device it is for.
    first = (config["gpu_list"].value or "-1").split("|")[0].split(",")[0]
    numbers = [first] * params.processes if first == "-1" else [str(number) for number in range(params.processes)]
    values = {"gpu_list": ",".join(numbers), "batch_size": str(params.batch_size), "eval": None}
    if params.static:
        if "to_static_train" not in lines or lines["to_static_train"].value is None:
            raise UserError(f"{config.path}: dynamicTostatic needs the line to_static_train, and it is null or absent")
        values["trainer"] = "to_static_train"
    else:
        values["trainer"] = "norm_train"
    if "epoch" in config.benchmark:
        values["epochs"] = config.benchmark["epoch"].value
    for name, value in values.items():
        lines[name] = replace(lines[name], value=value)
    if "autocast" in lines:
        lines["autocast"] = replace(lines["autocast"], value="amp" if params.precision == "fp16" else None)
    return replace(config, lines=lines)


def _more(job: Job, params: Params) -> list[str]:
    """Mixed precision, for the dialect that has no line for it, and decoding threads."""
    words = ["--amp", "O1"] if params.precision == "fp16" and "autocast" not in job.config.lines else []
    line = job.config.benchmark.get("num_workers")
    return [*words, *flag_words("--workers", line and line.at(job.mode), line.where if line else "")]


def _flags_env(job: Job) -> dict[str, str]:
    """``flags:FLAGS_a=1;FLAGS_b=2`` as variables."""
    line = job.config.benchmark.get("flags")
    found = {}
    for item in (line.value or "").split(";") if line else []:
        name, equals, value = item.partition("=")
        if item and not (equals and re.fullmatch(r"[A-Za-z_]\w*", name)):
            raise UserError(f"{line.where}: expected NAME=value;NAME=value, found: {item}")
        if item:
            found[name] = value
    return found


def _skip_steps(job: Job) -> int:
    line = job.config.benchmark.get("skip_steps")
    if line is None or line.value is None:
        return DEFAULT_SKIP_STEPS
    if not line.value.isdigit():
        raise UserError(f"{line.where}: {line.value}: expected a number of steps")
    return int(line.value)


def _convergence_key(job: Job) -> str:
    line = job.config.benchmark.get("convergence_key")
    return f"{line.value}:" if line and line.value else "loss:"
