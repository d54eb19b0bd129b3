"""Several methods on the same two domains, by the real commands: what each of them forgets.

A comparison is a graph of stages. Each stage is one command line, runs in a process of its own, writes its output to
``console/<stage>.txt``, and leaves a marker with its command when it is done, so that an interrupted comparison goes on
where it was. Stages that do not wait for each other run side by side while there are free cores; how many cores a stage
takes is part of the plan, not of the moment, so that the figures do not depend on scheduling.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_write_json
from ppcls.utils.logger import get_logger
from ppcls.utils.tuning import usable_cores

ROOT = Path(__file__).resolve().parents[2]
_LAST_LINES = 12


@dataclass(frozen=True)
class Stage:
    """One command: ``tool`` and ``arguments``, run on ``cores`` when the stages named in ``after`` are done.

    ``tool`` is a file of ``tools/`` without its ending, or, with slashes, a path from the root.
    """

    name: str
    tool: str
    arguments: tuple[str, ...]
    after: tuple[str, ...] = ()
    cores: int = 1

    @property
    def command(self) -> list[str]:
        """What is run, as it could be typed."""
        return ["python", self.script, *self.arguments]

    @property
    def script(self) -> str:
        """The command's file, from the root."""
        return f"{self.tool}.py" if "/" in self.tool else f"tools/{self.tool}.py"


@dataclass
class Settings:
    """Sizes of a comparison.

    ``data``, ``common`` (all training), ``train`` (task 1), ``joint``, ``dream`` and ``increment`` are flags;
    ``dream_shards`` processes dream side by side, and task 1, for which everything waits, trains on ``first_cores``.
    """

    first: str = "msmt17"
    second: str = "market"
    data: Mapping[str, object] = field(default_factory=dict)
    common: Mapping[str, object] = field(default_factory=dict)
    train: Mapping[str, object] = field(default_factory=dict)
    joint: Mapping[str, object] = field(default_factory=dict)
    dream: Mapping[str, object] = field(default_factory=dict)
    increment: Mapping[str, object] = field(default_factory=dict)
    dream_shards: int = 1
    first_cores: int = 1


#: Name in the tables → (tool, algorithm). ``joint`` and ``finetune`` are the bounds.
METHODS = {
    "finetune": ("main_finetune", None),
    "LwF": ("main_incremental", "LwF"),
    "cosine": ("main_incremental", "cosine"),
    "res-triangle (GD)": ("main_incremental", "res-triangle"),
    "sim-res (GD)": ("main_incremental", "sim-res-triangle"),
    "AD": ("main_incrementalX", "inverXion"),
    "AD-1.0": ("main_incrementalX", "inverXion-1.0"),
    "joint": ("main", None),
}


def plan(folder: Path, settings: Settings, methods: Sequence[str], seeds: Sequence[int]) -> list[Stage]:
    """All stages of a comparison, in an order in which they can run."""
    data = folder / "data"
    domains = (settings.first, settings.second)
    stages = [Stage("data", "make_lite_data", ("--out", str(data), "--domains", *domains, *flags(settings.data)))]
    for seed in seeds:
        stages += _stages_of(folder / f"seed{seed}", data, settings, methods, seed)
    return stages


def _stages_of(folder: Path, data: Path, settings: Settings, methods: Sequence[str], seed: int) -> list[Stage]:
    first, tag = folder / "task1", f"seed{seed}/"
    shared = flags({**settings.common, "data-root": data, "seed": seed, "evaluate": 0, "resume": "auto"})
    size = {key: settings.common[key] for key in ("height", "width") if key in settings.common}
    dreams = folder / "dreams"
    start = ("--dataset", settings.first, "--logs-dir", str(first), *shared, *flags(settings.train))
    stages = [
        Stage(f"{tag}task1", "main", start, ("data",), settings.first_cores),
        _evaluation(f"{tag}task1", first, data, settings),
    ]
    teacher = ("--teacher", str(first), "--generation-dir", str(dreams), *flags({**size, "seed": seed}))
    for shard in range(settings.dream_shards):
        part = flags({**settings.dream, "num-shards": settings.dream_shards, "shard": shard})
        stages.append(Stage(f"{tag}dreams-{shard}", "inversion", (*teacher, *part), (f"{tag}task1",)))
    for method in methods:
        tool, algorithm = METHODS[method]
        run, name = folder / slug(method), f"{tag}{slug(method)}"
        arguments = ["--logs-dir", str(run), *shared]
        if method == "joint":
            arguments += ["--dataset", f"{settings.first}+{settings.second}", *flags(settings.joint)]
            after = ("data",)
        else:
            arguments += ["--dataset", settings.second, "--previous", str(first), *flags(settings.increment)]
            after = (f"{tag}task1",)
        if algorithm:
            arguments += ["--inversion-dir", str(dreams), "--algo-config", algorithm]
            after = tuple(f"{tag}dreams-{shard}" for shard in range(settings.dream_shards))
        stages.append(Stage(name, tool, tuple(arguments), after))
        stages.append(_evaluation(name, run, data, settings))
    return stages


def _evaluation(after: str, run: Path, data: Path, settings: Settings) -> Stage:
    arguments = ("--ckpt", str(run), "--data-root", str(data), "--dataset", settings.first, settings.second, "--output")
    return Stage(f"{after}-evaluate", "evaluate", (*arguments, "--rank-list", "8"), (after,))


def deployment(folder: Path, settings: Settings, method: str, seed: int) -> list[Stage]:
    """The network of ``method`` is exported, and the second domain's queries are searched in its gallery with it."""
    run, name = folder / f"seed{seed}" / slug(method), f"seed{seed}/{slug(method)}"
    data, model = folder / "data", folder / f"seed{seed}" / "inference"
    export = ("--ckpt", str(run), "--save-inference-dir", str(model), "--onnx")
    images = ("--dataset", settings.second, "--data-root", str(data))
    second, answer = data / settings.second, str(model.parent / "matches")
    search = ("--model-dir", str(model), "--img-path", str(second / "query"), "--gallery")
    output = (str(second / "bounding_box_test"), "--output", f"{answer}.npz", "--picture", f"{answer}.png")
    return [
        Stage(f"{name}-export", "export_model", (*export, *images), (name,)),
        Stage(f"{name}-search", "deploy/inference_python/infer", (*search, *output), (f"{name}-export",)),
    ]


class Runner:
    """Runs the stages of one comparison folder that are not done yet."""

    def __init__(self, folder: Path, cores: int | None = None) -> None:
        self.folder = folder
        self.cores = cores or usable_cores()
        self._processes: set[subprocess.Popen] = set()

    def run(self, stages: Sequence[Stage]) -> None:
        """Run them all, as many side by side as there are cores.

        Raises:
            UserError: a command failed (the message names it and ends with its last lines), or the folder holds a
                comparison with other settings.
        """
        waiting = [stage for stage in stages if not self._is_done(stage)]
        done = {stage.name for stage in stages} - {stage.name for stage in waiting}
        running: dict[Future, Stage] = {}
        started = time.monotonic()
        with ThreadPoolExecutor(self.cores) as pool:
            try:
                while waiting or running:
                    for stage in self._startable(waiting, running.values(), done):
                        waiting.remove(stage)
                        place = f"[{len(stages) - len(waiting)}/{len(stages)}]"
                        get_logger().info("%s %s", place, " ".join(stage.command))
                        running[pool.submit(self._execute, stage)] = stage
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        stage, seconds = running.pop(future), future.result()
                        done.add(stage.name)
                        minutes = (time.monotonic() - started) / 60
                        get_logger().info("%s: done in %.0f s (%.1f min in all)", stage.name, seconds, minutes)
            except BaseException:
                for process in list(self._processes):
                    process.terminate()
                raise

    def seconds(self, stage: Stage) -> float:
        """How long a finished stage took."""
        return float(json.loads(self._marker(stage).read_text(encoding="utf-8"))["seconds"])

    def _startable(self, waiting: Sequence[Stage], running: Iterable[Stage], done: set[str]) -> list[Stage]:
        free = self.cores - sum(min(stage.cores, self.cores) for stage in running)
        chosen = []
        for stage in waiting:
            if set(stage.after) <= done and min(stage.cores, self.cores) <= free:
                chosen.append(stage)
                free -= min(stage.cores, self.cores)
        return chosen

    def _execute(self, stage: Stage) -> float:
        output = self.folder / "console" / f"{_file_name(stage)}.txt"
        output.parent.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        command = [sys.executable, str(ROOT / stage.script), *stage.arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": str(min(stage.cores, self.cores)), "PYTHONUNBUFFERED": "1"}
        with output.open("w", encoding="utf-8") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, env=environment)
            self._processes.add(process)
            status = process.wait()
            self._processes.discard(process)
        if status:
            last = output.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
            raise UserError(f"stage {stage.name} failed with exit status {status}; its last lines:\n" + "\n".join(last))
        seconds = time.monotonic() - started
        atomic_write_json(self._marker(stage), {"command": stage.command, "seconds": seconds})
        return seconds

    def _is_done(self, stage: Stage) -> bool:
        marker = self._marker(stage)
        if not marker.is_file():
            return False
        if json.loads(marker.read_text(encoding="utf-8"))["command"] != stage.command:
            raise UserError(
                f"{self.folder} holds a comparison with other settings (stage {stage.name}); "
                "give another folder, or remove it"
            )
        return True

    def _marker(self, stage: Stage) -> Path:
        return self.folder / "done" / f"{_file_name(stage)}.json"


def results(folder: Path, methods: Sequence[str], seeds: Sequence[int]) -> dict[str, list[dict]]:
    """Method (and ``task1``) → per seed ``{data set: {"mAP": …, "R1": …}}`` as fractions of 1."""
    names = {"task1": "task1", **{method: slug(method) for method in methods}}
    return {name: [_read(folder / f"seed{seed}" / sub) for seed in seeds] for name, sub in names.items()}


def slug(method: str) -> str:
    """A folder name for a method's name."""
    return method.replace(" (GD)", "").replace(" ", "-")


def _file_name(stage: Stage) -> str:
    return stage.name.replace("/", "-")


def _read(run_folder: Path) -> dict[str, dict[str, float]]:
    found = json.loads((run_folder / "eval.json").read_text(encoding="utf-8"))["checkpoint.pdparams"]["results"]
    return {line["dataset"]: {"mAP": line["mAP"], "R1": line["cmc"]["1"]} for line in found}


def flags(options: Mapping[str, object]) -> tuple[str, ...]:
    """``{"epochs": 3, "steps": (2, 1)}`` → ``("--epochs", "3", "--steps", "2", "1")``."""
    flags: list[str] = []
    for key, value in options.items():
        many = value if isinstance(value, (list, tuple)) else (value,)
        flags += [f"--{key}", *(str(item) for item in many)]
    return tuple(flags)
