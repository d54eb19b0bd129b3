"""The plan of a stream: its stages with their complete options, made from the options alone.

A stage is one job in one folder; it reads what the stages named in ``inputs`` left there and nothing else, so that
streams of another shape need another planner but no other machinery.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppcls.configs.algo import AlgoConfig, load_algo
from ppcls.configs.evaluation import EvaluateOptions
from ppcls.configs.lifelong import FINETUNE, LifelongOptions
from ppcls.configs.options import Options, validate
from ppcls.configs.schema import (
    FinetuneOptions,
    IncrementalOptions,
    InversionOptions,
    NetOptions,
    TrainOptions,
)
from ppcls.method import METHODS, streams_of
from ppcls.utils.errors import UserError

TRAINING = ("start", "train", "finetune", "increment")
"""Kinds of stage that leave a checkpoint."""

# What does not enter a stage's result: it may differ between a stopped stream and its continuation.
_FREE = {
    "gpu", "workers", "preload", "cache_mb", "data_root", "evaluate", "save_freq", "save_minutes", "print_freq",
    "profile", "logs_dir", "resume", "previous", "inversion_dir", "teacher", "generation_dir", "ckpt", "output",
    "verifier", "recursive", "algo_config", "algo",
}  # fmt: skip


class DeleteOptions(Options):
    """A stage that frees disk space. ``dataset``: whose training images go; None: the dreams in ``folder`` go.

    ``tasks``: all data sets of the stream; the test images of each and the training images of ``still_needed`` stay.
    """

    folder: str = ""
    dataset: str | None = None
    data_root: str = "data"
    tasks: list[str] = []
    still_needed: list[str] = []


@dataclass(frozen=True)
class Stage:
    """One resumable step of a stream.

    Attributes:
        kind: "start" (the untrained network), "train", "dream", "finetune", "increment", "evaluate" or "delete".
        name: folder below the stream's; unique.
        task: number of the task it belongs to, from 1; 0 before the first.
        options: everything its job needs.
        inputs: names of the stages whose results it reads.
        parts: what it makes one by one (the data sets of an evaluation); an extended stage makes the missing ones.
        algorithm: resolved configuration of an "increment".
    """

    kind: str
    name: str
    task: int
    options: Options
    inputs: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    algorithm: AlgoConfig | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What the result depends on besides the inputs, JSON-ready; two runs of a stage must agree in it."""
        if self.kind == "delete":
            return {}
        free = _FREE | ({"dataset", "batch_size"} if self.kind == "evaluate" else set())
        settings = {key: value for key, value in self.options.model_dump(mode="json").items() if key not in free}
        return {**settings, "algorithm": self.algorithm.model_dump(mode="json")} if self.algorithm else settings


def plan_stream(options: LifelongOptions, seed: int = 0) -> list[Stage]:
    """All stages of the stream in the order of execution.

    Per task: learn, evaluate; before each later task: dream of all classes so far, if the algorithm reads dreams.

    Raises:
        UserError: an unknown algorithm or option, an impossible schedule.
    """
    return _Planner(options, seed).plan()


def task_names(tasks: Sequence[str]) -> list[str]:
    """Short, distinct names for folders and tables: ``folder:/data/shop a`` → ``shop-a``."""
    names = []
    for task in tasks:
        prefix, _, path = task.partition(":")
        text = Path(path).stem if prefix in ("folder", "csv") and path else task
        names.append(re.sub(r"[^A-Za-z0-9+_.-]+", "-", text).strip("-.") or "data")
    return [f"{name}-{i}" if names.count(name) > 1 else name for i, name in enumerate(names, 1)]


def describe(stages: Sequence[Stage], states: Mapping[str, str]) -> str:
    """The plan as a table: number, folder, kind, what happens, and the state ``states[name]``."""
    rows = [("", "folder", "stage", "state", "what")]
    rows += [(str(i), s.name, s.kind, states.get(s.name, "to do"), _what(s)) for i, s in enumerate(stages, 1)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join(
        "  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[4]]) for row in rows
    )


class _Planner:
    def __init__(self, options: LifelongOptions, seed: int) -> None:
        self.options, self.seed = options, seed
        self.root = Path(options.logs_dir)
        self.names = task_names(options.tasks)
        self.algorithm = None
        if options.algo_config != FINETUNE:
            self.algorithm = load_algo(options.algo_config, options.algo)
            METHODS.get(self.algorithm.method_name).arguments(self.algorithm)  # wrong factors: now, not after task 1
        self.dreaming = self.algorithm is not None and "dreamed" in streams_of(self.algorithm)

    def plan(self) -> list[Stage]:
        stages: list[Stage] = []
        if self.options.evaluate_unseen:
            start = Stage("start", "task0-untrained", 0, self._first("task0-untrained"))
            stages += [start, self._evaluation(0, start.name)]
        previous = None
        for task in range(1, len(self.names) + 1):
            stages += self._before(task, previous)
            learned = self._learning(task, previous)
            stages += [learned, self._evaluation(task, learned.name), *self._after(task)]
            previous = learned.name
        return stages

    def _before(self, task: int, previous: str | None) -> list[Stage]:
        """Dreams of the network so far, and the removal of the images that it no longer needs."""
        stages = []
        if previous is not None and self.dreaming:
            stages.append(Stage("dream", _dreams(task), task - 1, self._dream(task, previous), (previous,)))
        if previous is not None and self.options.earlier_data == "delete":
            wanted = DeleteOptions(
                dataset=self.options.tasks[task - 2],
                data_root=self.options.data_root,
                tasks=self.options.tasks,
                still_needed=self.options.tasks[task - 1 :],
            )
            stages.append(Stage("delete", f"deleted-images-{task - 1}", task - 1, wanted))
        return stages

    def _after(self, task: int) -> list[Stage]:
        if task == 1 or not self.dreaming or self.options.earlier_data != "delete-dreams":
            return []
        wanted = DeleteOptions(folder=str(self.root / _dreams(task)))
        return [Stage("delete", f"deleted-dreams-{task - 1}", task, wanted)]

    def _learning(self, task: int, previous: str | None) -> Stage:
        name = f"task{task}-{self.names[task - 1]}"
        if previous is None:
            return Stage("train", name, task, self._first(name))
        values = {**self._shared(FinetuneOptions, task, name), "previous": str(self.root / previous)}
        values["peers"] = self.options.peers or (2 if self._augmented else 1)
        where = f"the options of task {task}"
        if self.algorithm is None:
            return Stage("finetune", name, task, validate(FinetuneOptions, values, where), (previous,))
        inputs = (previous, _dreams(task)) if self.dreaming else (previous,)
        values |= {
            "algo_config": self.options.algo_config,
            "algo": self.options.algo,
            "exemplars": self.options.shots,
            "inversion_dir": str(self.root / _dreams(task)),
        }
        options = validate(IncrementalOptions, values, where)
        return Stage("increment", name, task, options, inputs, algorithm=self.algorithm)

    @property
    def _augmented(self) -> bool:
        return self.algorithm is not None and self.algorithm.method_name == "augmented"

    def _first(self, name: str) -> TrainOptions:
        own = {
            key: getattr(self.options, f"first_{key}")
            for key in ("batch_size", "epochs", "epochs_decay", "warmup", "peers")
        }
        values = {**self._shared(TrainOptions, 1, name), **own}
        return validate(TrainOptions, values, "the options of task 1 (its own ones are --first-…)")

    def _shared(self, schema: type[TrainOptions], task: int, name: str) -> dict[str, Any]:
        """The stream's options that the training commands have as well."""
        common = schema.model_fields.keys() & LifelongOptions.model_fields.keys()
        values = {key: getattr(self.options, key) for key in common}
        return {
            **values,
            "dataset": self.options.tasks[task - 1],
            "logs_dir": str(self.root / name),
            "seed": self.seed,
            "resume": "auto",
        }

    def _dream(self, task: int, previous: str) -> InversionOptions:
        shared = ("shots", "steps", "bs", "height", "width", "gpu", "save_minutes")
        values = {key: getattr(self.options, key) for key in shared}
        values |= {
            "seed": self.seed,
            "teacher": str(self.root / previous),
            "generation_dir": str(self.root / _dreams(task)),
        }
        closed = values.keys() | {"resume", "num_shards", "shard", "iters"}
        return _with_own(InversionOptions, values, self.options.dream, "dream", closed)

    def _evaluation(self, task: int, network: str) -> Stage:
        seen = self.options.tasks if self.options.evaluate_unseen else self.options.tasks[:task]
        values = {
            "ckpt": str(self.root / network),
            "dataset": list(seen),
            "data_root": self.options.data_root,
            "workers": self.options.workers,
            "gpu": self.options.gpu,
        }
        closed = values.keys() | {"output", "recursive", "seed"} | NetOptions.model_fields.keys()
        options = _with_own(EvaluateOptions, values, self.options.evaluation, "evaluation", closed)
        return Stage("evaluate", f"evaluation-{task}", task, options, (network,), tuple(seen))


def _dreams(task: int) -> str:
    """Folder of the dreams that ``task`` learns from."""
    return f"dreams-{task - 1}"


def _with_own(
    schema: type[Options], values: dict[str, Any], own: dict[str, Any] | None, key: str, closed: set[str]
) -> Any:
    for name in own or {}:
        if name in closed:
            raise UserError(f"{key}.{name} is set by the stream itself; leave it out, or use the stream's own flag")
    return validate(schema, {**(own or {}), **values}, f"the keys below '{key}'")


def _what(stage: Stage) -> str:
    options = stage.options
    if isinstance(options, TrainOptions):
        if stage.kind == "start":
            return f"ResNet-{options.depth} before learning"
        how = f" by {options.algo_config}" if isinstance(options, IncrementalOptions) else ""
        after = f", after {stage.inputs[0]}" if stage.inputs else ""
        return f"learn {options.dataset}{how}, {options.epochs} epochs of batches of {options.batch_size}{after}"
    if isinstance(options, InversionOptions):
        return f"dream {options.shots} images per id of {stage.inputs[0]}, {options.steps[0]}+{options.steps[1]} steps"
    if isinstance(options, EvaluateOptions):
        return f"evaluate {stage.inputs[0]} on {', '.join(stage.parts)}"
    if options.dataset is not None:
        return f"DELETE the original training images of {options.dataset}"
    return f"delete the dreamed images in {Path(options.folder).name}"
