"""Lifelong learning from one command: a stream of tasks, resumable at every moment, and its report."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ppcls.configs.lifelong import LifelongOptions
from ppcls.configs.options import read_yaml
from ppcls.engine.run_folder import draw_seed
from ppcls.engine.stream.data import check_data
from ppcls.engine.stream.deletion import read_deletion
from ppcls.engine.stream.ledger import DONE, STARTED, Ledger
from ppcls.engine.stream.plan import Stage, describe, plan_stream, task_names
from ppcls.engine.stream.report import StreamReport, result_matrices
from ppcls.engine.stream.work import WORK, Work
from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_write_text, sweep_temporaries
from ppcls.utils.logger import bold, get_logger, log_to_file, stop_logging_to

CONFIG, LOG = "config.yaml", "log.txt"


def run_stream(options: LifelongOptions, work: Mapping[str, Work] | None = None) -> StreamReport:
    """Learn ``options.tasks`` one after the other and report what was kept and what was forgotten.

    Each stage (learn, dream, evaluate, delete) is a folder below ``options.logs_dir`` and reads what earlier stages
    left there. Called again with the same options after a stop at any moment, it goes on exactly there and ends with
    the same files; with further tasks at the end of the list it learns those. The report is written as
    ``report.json``, ``report.md``, ``mAP.png``, ``R1.png`` and ``curves.png``.

    Example::

        options = LifelongOptions(tasks=["msmt17", "market", "duke"], logs_dir="logs/stream", seed=0)
        print(run_stream(options).summary("mAP").forgetting)

    Args:
        options: see :class:`~ppcls.configs.lifelong.LifelongOptions`.
        work: other jobs for some kinds of stage.

    Raises:
        UserError: before anything starts, a missing data set, too few ids, an unknown algorithm, a folder that holds
            another stream or stages made with other options; later, whatever a stage's own command raises.
    """
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1:
        raise UserError("a stream runs in one process; start tools/lifelong.py without paddle.distributed.launch")
    if options.dry_run:
        raise UserError("dry_run is set: show_plan() says what would be done; run_stream() does it")
    options, stages, ledger = _prepare(options)
    root = Path(options.logs_dir)
    check_data(stages, ledger.states(), agreed=options.yes)
    with _alone(root), _log(root):
        shown = {key: list(v) if isinstance(v, tuple) else v for key, v in options.model_dump().items()}
        atomic_write_text(root / CONFIG, yaml.safe_dump(shown, sort_keys=False, allow_unicode=True))
        get_logger().info("%s", describe(stages, ledger.states()))
        for number, stage in enumerate(stages, 1):
            _run_stage(stage, f"{number}/{len(stages)}", ledger, {**WORK, **(work or {})})
        report = _report(options, stages, ledger)
        report.write()
        get_logger().info("\n%s", report.markdown())
    return report


def show_plan(options: LifelongOptions) -> str:
    """The plan and what of it is done, as a table; writes nothing.

    Raises:
        UserError: as :func:`run_stream` before anything starts, without asking for ``options.yes``.
    """
    _, stages, ledger = _prepare(options)
    check_data(stages, ledger.states(), agreed=True)
    return describe(stages, ledger.states())


def _prepare(options: LifelongOptions) -> tuple[LifelongOptions, list[Stage], Ledger]:
    """The options with their seed, the plan, and the ledger after all checks of what is there already."""
    root = Path(options.logs_dir)
    stored = read_yaml(root / CONFIG) if (root / CONFIG).is_file() else {}
    _check_same_stream(options, stored)
    if options.seed is None:
        options = options.model_copy(update={"seed": stored.get("seed", draw_seed())})
    stages = plan_stream(options, options.seed)
    ledger = Ledger(root, stages)
    for stage in stages:
        ledger.check(stage)
    return options, stages, ledger


def _check_same_stream(options: LifelongOptions, stored: Mapping[str, Any]) -> None:
    if stored and not options.resume:
        raise UserError(f"--no-resume: {options.logs_dir} holds a stream already; choose another --logs-dir")
    before = stored.get("tasks", [])
    common = min(len(before), len(options.tasks))
    if before[:common] != options.tasks[:common]:
        raise UserError(
            f"{options.logs_dir} holds the stream {' '.join(before)}, not {' '.join(options.tasks)}; name the same "
            "tasks in the same order (more may follow), or choose another --logs-dir"
        )


def _run_stage(stage: Stage, number: str, ledger: Ledger, work: Mapping[str, Work]) -> None:
    ledger.check(stage)
    state = ledger.state(stage)
    if state == DONE:
        get_logger().info("stage %s %s: done already", number, stage.name)
        return
    get_logger().info("%s", bold(f"stage {number} {stage.name}: {'goes on' if state == STARTED else 'starts'}"))
    folder = ledger.root / stage.name
    ledger.begin(stage)
    sweep_temporaries(folder)
    work[stage.kind](stage, folder)
    ledger.finish(stage)


def _report(options: LifelongOptions, stages: Sequence[Stage], ledger: Ledger) -> StreamReport:
    root = Path(options.logs_dir)
    matrices, initial = result_matrices(options.tasks, stages, root)
    deletions = [read_deletion(root / stage.name) for stage in stages if stage.kind == "delete"]
    return StreamReport(
        folder=root,
        tasks=list(options.tasks),
        names=task_names(options.tasks),
        matrices=matrices,
        initial=initial,
        options=options.model_dump(mode="json", exclude={"logs_dir", "dry_run", "resume", "yes"}),
        products={stage.name: ledger.product(stage) for stage in stages if ledger.product(stage)},
        deleted=[vars(deletion) for deletion in deletions],
    )


@contextlib.contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the folder; the system frees it when the process dies."""
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--logs-dir {root}: cannot make the folder: {error.strerror}") from error
    handle = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process works on the stream in {root}; wait for it") from error
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _log(root: Path) -> Iterator[None]:
    sweep_temporaries(root)
    handler = log_to_file(root / LOG)
    try:
        yield
    finally:
        stop_logging_to(handler)
