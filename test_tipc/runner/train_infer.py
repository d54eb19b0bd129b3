"""The plan of ``test_train_inference_python.sh``: train, evaluate, export, infer, compare, as configured."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ppcls.utils.errors import UserError
from test_tipc.runner.commands import Command, fill, flag_words, line_words, program, seen_from
from test_tipc.runner.config import AFTER, AFTER_EVAL, BEFORE, PREPARE, Block, Config, Line
from test_tipc.runner.devices import Devices, parse_devices
from test_tipc.runner.dialects import CLAS

#: What PaddleClas' precisions of training are called by the commands of this project.
_AMP = {None: None, "null": None, "fp32": None, "amp": "O1", "fp16": "O2"}


@dataclass(frozen=True)
class Job:
    """What every part of a plan needs."""

    config: Config
    mode: str
    output: Path

    @property
    def python(self) -> str:
        """The interpreter of the configuration: the first entry of the line that names one."""
        line = self.config["python"]
        for entry in line.items(self.mode):
            if entry and "python" in entry:
                return entry
        raise UserError(f"{line.where}: expected the name of a Python interpreter, such as python")

    def places(self, **more: Path | str) -> dict[str, str]:
        """What ``{name}`` stands for in commands."""
        return {"output": str(self.output), **{name: str(value) for name, value in more.items()}}

    def block(
        self, block: Block, places: Mapping[str, str], devices: Devices | None = None, suffix: str = ""
    ) -> Command | None:
        """The command of a stage in a section; None where it is ``null`` in this mode. ``suffix`` goes to its log."""
        if block.command.at(self.mode) is None:
            return None
        words = program(block.command, self.mode, self.python)
        for line in block.flags:
            words += line_words(line, self.mode)
        log = self.output / f"{block.name}{suffix}.log"
        words = fill(words, {"log": str(log.with_suffix("")), **places}, block.command.where)
        return Command(block.name, tuple(words), log, env=devices.env if devices else {})

    def blocks(
        self, section: str, places: Mapping[str, str], devices: Devices | None = None, suffix: str = ""
    ) -> list[Command]:
        """The commands of a section, in order."""
        commands = (self.block(block, places, devices, suffix) for block in self.config.blocks(section))
        return [command for command in commands if command is not None]

    def more(self, name: str) -> list[str]:
        """Arguments that more_params adds to the command ``name``, places not yet filled."""
        return [word for line in self.config.more(name) for word in line_words(line, self.mode)]


@dataclass(frozen=True)
class Run:
    """One training of the product gpu_list × precision × trainer."""

    trainer: str
    autocast: str | None
    devices: Devices

    @property
    def name(self) -> str:
        """Of its folder and its logs."""
        return f"{self.trainer}_gpus_{self.devices.text}_autocast_{self.autocast or 'null'}_nodes_1"


def prepare_commands(job: Job) -> list[Command]:
    """What makes the data that the mode reads and that can be made."""
    return job.blocks(PREPARE, job.places())


def plan(job: Job, gpu: str | None = None) -> list[Command]:
    """All commands of a mode after the preparation.

    Args:
        gpu: for whole_infer, the GPU to infer on (the script's third argument).
    """
    _require_built(job)
    if job.mode == "whole_infer":
        return _whole_infer(job, gpu)
    if gpu is not None:
        raise UserError(f"GPUID belongs to MODE whole_infer; in {job.mode} the configuration's gpu_list says where")
    runs = training_runs(job)
    commands = job.blocks(BEFORE, job.places(), runs[0].devices)
    several = len({run.devices.text for run in runs}) < len(runs)
    places = job.places()
    for run in runs:
        folder = job.output / run.name
        model = folder / "inference"
        places = job.places(run=folder, model=model)
        suffix = f"_{run.name}" if len(runs) > 1 else ""
        commands += [train_command(job, run), *_evaluation(job, run)]
        commands += job.blocks(AFTER_EVAL, places, run.devices, suffix)
        commands += _export(job, run.trainer, folder / _weights_name(job), model, run.name, run.devices)
        sweep = inference(job, model, run.devices, f"_{run.name}" if several else "", places)
        places.update(first_of(sweep))
        commands += sweep
    return commands + job.blocks(AFTER, places, runs[-1].devices)


def _require_built(job: Job) -> None:
    """UserError for a line of PaddleClas' dialect that asks for what is not built here."""
    for name in ("kl_quant", "export2", "infer_quant"):
        line = job.config[name]
        if (line.at(job.mode) or "False").lower() not in ("false", "fasle"):  # the second is how their files spell it
            raise UserError(f"{line.where}: {line.at(job.mode)}: quantised inference is not built here; write null")


def training_runs(job: Job) -> list[Run]:
    """The product of the lists on lines gpu_list, auto_cast and trainer, in the order of PaddleClas."""
    config, mode = job.config, job.mode
    found = []
    for gpus, autocast, trainer in itertools.product(
        config["gpu_list"].items(mode), config["autocast"].items(mode), config["trainer"].items(mode)
    ):
        if autocast not in _AMP:
            raise UserError(f"{config['autocast'].where}: {autocast}: known are null, amp (O1) and fp16 (O2)")
        found.append(Run(_trainer(config, trainer), autocast, parse_devices(gpus, config["gpu_list"].where)))
    return found


def _trainer(config: Config, name: str | None) -> str:
    known = [key for key in config.lines if key.endswith("_train")]
    if name not in known:
        raise UserError(f"{config['trainer'].where}: no trainer '{name}'; the lines below have {', '.join(known)}")
    return name


def train_command(job: Job, run: Run, extra: Sequence[str] = (), name: str | None = None) -> Command:
    """Training of one run, into a folder of its own (``name``, else the run's), with ``extra`` arguments at the end."""
    name = name or run.name
    config, mode, folder = job.config, job.mode, job.output / name
    static = run.trainer == "to_static_train"
    line = config["norm_train" if static else run.trainer]
    words = _launched(program(line, mode, job.python), run.devices.launcher(Path(f"{folder}_workers")), job, line)
    if static:
        config.required("to_static_train", mode)
        words += config["to_static_train"].words(mode)
    words += line_words(config["device"], mode)
    words += flag_words(config["save"].flag, str(folder), config["save"].where)
    for field in ("epochs", "pretrained"):
        words += line_words(config[field], mode)
    words += flag_words(config["autocast"].flag and "-o amp", _AMP[run.autocast], config["autocast"].where)
    for field in ("batch_size", "data"):
        words += line_words(config[field], mode)
    words += [*job.more(run.trainer), *extra]
    words = fill(words, job.places(run=folder), line.where)
    weights = (folder / _weights_name(job),) if config["save"].flag else ()
    log, figures = job.output / f"{name}.log", {"train": folder / "metrics.jsonl"}
    return Command("train", tuple(words), log, env=run.devices.env, makes=weights, figures=figures)


def _launched(words: list[str], launcher: Sequence[str], job: Job, line: Line) -> list[str]:
    """The training's program, started by Paddle's launcher if there are several processes."""
    if not launcher:
        return words
    if words[0] != job.python or words[1] == "-m":
        raise UserError(f"{line.where}: several processes need a .py file as the program, not: {line.at(job.mode)}")
    return [job.python, *launcher, *words[1:]]


def _weights_name(job: Job) -> str:
    return job.config.required("train_model_name", job.mode)


def _evaluation(job: Job, run: Run) -> list[Command]:
    config, mode, folder = job.config, job.mode, job.output / run.name
    line = config["eval"]
    if line.at(mode) is None:
        return []
    words = program(line, mode, job.python)
    words += flag_words(config["weights"].flag, str(folder / _weights_name(job)), config["weights"].where)
    words += [*line_words(config["device"], mode), *line_words(config["data"], mode), *job.more("eval")]
    words = fill(words, job.places(run=folder), line.where)
    log = job.output / f"{run.name}_eval.log"
    return [Command("evaluate", tuple(words), log, env=run.devices.env, figures={"eval": folder / "eval.json"})]


def _export(job: Job, trainer: str, weights: Path, target: Path, name: str, devices: Devices) -> list[Command]:
    stage = {"to_static_train": "norm_export"}.get(trainer, trainer.replace("_train", "_export"))
    return _export_by(job, job.config[stage], stage, weights, target, name, devices)


def _export_by(
    job: Job, line: Line, stage: str, weights: Path, target: Path, name: str, devices: Devices
) -> list[Command]:
    config, mode = job.config, job.mode
    if line.at(mode) is None:
        if config["inference"].at(mode) is not None:
            raise UserError(f"{line.where}: null, but the inference command needs an exported model")
        return []
    words = program(line, mode, job.python)
    words += flag_words(config["weights"].flag, str(weights), config["weights"].where)
    words += flag_words(config["save_inference"].flag, str(target), config["save_inference"].where)
    words = fill([*words, *job.more(stage)], job.places(model=target), line.where)
    log = job.output / f"{name}_export.log"
    return [Command("export", tuple(words), log, env=devices.env, makes=(target,))]


def _whole_infer(job: Job, gpu: str | None) -> list[Command]:
    """The exported model of somebody's weights, or one that is exported already."""
    config, mode = job.config, job.mode
    devices = parse_devices(gpu or config["gpu_list"].items(mode)[0], config["gpu_list"].where)
    source = Path(config.required("infer_model", mode))
    if config.layout.dialect == CLAS:
        source = Path(os.path.normpath(Path("deploy") / source))
    if not source.exists():
        raise UserError(
            f"{config['infer_model'].where}: {source} does not exist; put the trained weights there, or name yours"
        )
    export = config["infer_export"]
    if export.at(mode) in (None, "False"):
        model, commands = source, []
    else:
        line = config["norm_export"] if export.at(mode) == "True" else export
        model = job.output / "inference"
        commands = _export_by(job, line, "norm_export", source, model, "whole_infer", devices)
    places = job.places(model=model)
    sweep = inference(job, model, devices, "", places)
    return [*commands, *sweep, *job.blocks(AFTER, {**places, **first_of(sweep)}, devices)]


def first_of(sweep: Sequence[Command]) -> dict[str, str]:
    """``{first_infer}``: the first inference's log without its ending, with which the others are compared."""
    return {"first_infer": str(sweep[0].log.with_suffix(""))} if sweep else {}


@dataclass(frozen=True)
class _Choice:
    """One point of the inference sweep: role → (flag, value)."""

    values: Mapping[str, tuple[Line, str | None]]

    def text(self, role: str, default: str) -> str:
        return (self.values[role][1] if role in self.values else None) or default


def inference(job: Job, model: Path, devices: Devices, suffix: str, places: Mapping[str, str]) -> list[Command]:
    """The inference command over the product of its lists: device, MKLDNN, threads, precision, batch size, others."""
    config, mode = job.config, job.mode
    line = config["inference"]
    if line.at(mode) is None:
        return []
    cwd = Path("deploy") if config.layout.dialect == CLAS else Path()
    fixed = program(line, mode, job.python)
    fixed += flag_words(config["model_dir"].flag, seen_from(model, cwd), config["model_dir"].where)
    fixed += _images(job)
    for name in ("save_log", "benchmark"):
        fixed += line_words(config[name], mode)
    commands = []
    for choice in _sweep(job):
        log = job.output / f"{_infer_name(choice, devices)}{suffix}.log"
        words = [
            *fixed,
            *(word for axis, value in choice.values.values() for word in flag_words(axis.flag, value, axis.where)),
        ]
        here = {name: seen_from(Path(value), cwd) for name, value in places.items()}
        words = fill(words, {**here, "log": seen_from(log.with_suffix(""), cwd)}, line.where)
        commands.append(Command("inference", tuple(words), log, cwd, devices.env, figures={"benchmark": log}))
    return commands


def _images(job: Job) -> list[str]:
    """The pictures to infer on; PaddleClas has a line of its own for those after a training."""
    own = job.config["train_infer_img_dir"]
    line = job.config["images"]
    if job.mode != "whole_infer" and own.at(job.mode) is not None:
        return flag_words(line.flag, own.at(job.mode), own.where)
    return line_words(line, job.mode)


#: Lines of the sweep in the order of PaddleClas' loops; the ones of the template stand in its more_params.
_AXES = ("use_gpu", "mkldnn", "threads", "tensorrt", "precision", "infer_batch_size")
_ROLES = {
    "enable-mkldnn": "mkldnn",
    "cpu-threads": "threads",
    "cpu-num-threads": "threads",
    "use-tensorrt": "tensorrt",
    "precision": "precision",
    "use-fp16": "precision",
}
_CPU_ONLY, _GPU_ONLY = ("mkldnn", "threads"), ("tensorrt",)


def _sweep(job: Job) -> Iterator[_Choice]:
    axes: dict[str, Line] = {name: job.config[name] for name in _AXES if job.config[name].flag}
    for line in job.config.more("inference"):
        name = line.key.lstrip("-").removeprefix("o ").replace("_", "-")
        axes[_ROLES.get(name, line.key)] = line
    for values in itertools.product(*(line.items(job.mode) for line in axes.values())):
        chosen = {role: (line, value) for (role, line), value in zip(axes.items(), values, strict=True)}
        unused = _CPU_ONLY if _Choice(chosen).text("use_gpu", "False") == "True" else _GPU_ONLY
        left_out = [role for role in unused if role in axes]
        # An axis of the other device is not swept: its first value stands for all.
        if all(chosen[role][1] == axes[role].items(job.mode)[0] for role in left_out):
            yield _Choice({role: pair for role, pair in chosen.items() if role not in left_out})


def _infer_name(choice: _Choice, devices: Devices) -> str:
    """The log's name, as PaddleClas has it."""
    precision, batch = choice.text("precision", "False"), choice.text("infer_batch_size", "1")
    if choice.text("use_gpu", "False") == "True":
        first = f"python_infer_gpu_gpus_{devices.text}_usetrt_{choice.text('tensorrt', 'False')}"
    else:
        mkldnn, threads = choice.text("mkldnn", "False"), choice.text("threads", "1")
        first = f"python_infer_cpu_gpus_{devices.text}_usemkldnn_{mkldnn}_threads_{threads}"
    others = [f"_{line.key.lstrip('-')}_{value}" for role, (line, value) in choice.values.items() if role == line.key]
    listed = [text for text in others if "{" not in text and "/" not in text]
    return f"{first}_precision_{precision}_batchsize_{batch}{''.join(listed)}".replace(" ", "_")
