"""Options of a stream of tasks: task 1 as ``tools/main.py``, the later ones as ``tools/main_incremental.py``."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import field_validator, model_validator

from ppcls.configs.options import option
from ppcls.configs.schema import ImageOptions, NetOptions, OptimOptions

#: Name that stands in place of an algorithm for training on the new data alone.
FINETUNE = "finetune"

_STREAM, _FIRST, _LATER, _OPTIM, _RUN = "stream", "task 1", "later tasks", "optimisation", "run"


class LifelongOptions(ImageOptions, NetOptions, OptimOptions):
    """``tools/lifelong.py``: learn any number of data sets one after the other."""

    tasks: list[str] = option(
        [], "--tasks", help="data sets in the order of learning, each as --dataset of tools/main.py", group=_STREAM
    )
    earlier_data: Literal["keep", "delete-dreams", "delete"] = option(
        "keep",
        "--earlier-data",
        help="keep all; delete-dreams: remove a task's dreamed images once the next task is learned and evaluated; "
        "delete: remove a task's original training images from the disk once it is learned and dreamed (needs --yes)",
        group=_STREAM,
    )
    yes: bool = option(False, "--yes", help="agree that --earlier-data delete removes original images", group=_STREAM)
    evaluate_unseen: bool = option(
        False,
        "--evaluate-unseen",
        help="evaluate every network, also the untrained one, on all domains: gives the forward transfer",
        group=_STREAM,
    )
    dry_run: bool = option(False, "--dry-run", help="print the plan, check the data, and do nothing", group=_STREAM)

    first_batch_size: int = option(128, "--first-batch-size", help="as --batch-size, of task 1", group=_FIRST, ge=2)
    first_epochs: int = option(90, "--first-epochs", help="as --epochs, of task 1", group=_FIRST, ge=1)
    first_epochs_decay: list[int] = option(
        [61], "--first-epochs-decay", help="as --epochs-decay, of task 1", group=_FIRST
    )
    first_warmup: int = option(10, "--first-warmup", help="as --warmup, of task 1", group=_FIRST, ge=0)
    first_peers: int = option(1, "--first-peers", help="as --peers, of task 1", group=_FIRST, ge=1)

    algo_config: str = option(
        "inverXion",
        "--algo-config",
        help=f"algorithm: a YAML file, the name of one in ppcls/configs, or '{FINETUNE}' for new data alone",
        group=_LATER,
    )
    algo: dict[str, Any] | None = option(
        None,
        "--algo",
        help="keys that override the algorithm's file (use -o algo.distillation.factor=4)",
        group=_LATER,
    )
    peers: int | None = option(
        None,
        "--peers",
        help="independently augmented views of each image; 2 for augmented distillation, else 1, if absent",
        group=_LATER,
        ge=1,
    )
    batch_size: int = option(64, "-b", "--batch-size", help="images in a batch of each kind", group=_LATER, ge=2)
    epochs: int = option(80, "--epochs", "--epoch", help="epochs to train", group=_LATER, ge=1)
    epochs_decay: list[int] = option([41], "--epochs-decay", help="first epochs at a 10× smaller rate", group=_LATER)
    warmup: int = option(0, "--warmup", help="epochs of linear warm-up", group=_LATER, ge=0)

    shots: int = option(40, "--shots", help="dreamed images per old id", group="dreams", ge=1)
    steps: tuple[int, int] = option(
        (2000, 1000), "--steps", help="optimisation steps at half and at full resolution", group="dreams"
    )
    bs: int = option(64, "--bs", help="images optimised together", group="dreams", ge=1)
    dream: dict[str, Any] | None = option(
        None, "--dream", help="further options of tools/inversion.py (use -o dream.r_feature=0.02)", group="dreams"
    )
    evaluation: dict[str, Any] | None = option(
        None,
        "--evaluation",
        help="options of tools/evaluate.py for the matrix (use -o evaluation.flip=true)",
        group="evaluation",
    )

    gpu: list[str] = option(["0"], "-g", "--gpu", help="GPU number; without a GPU the CPU is used", group=_RUN)
    seed: int | None = option(
        None, "-s", "--seed", help="makes the stream repeatable; drawn once and kept if absent", group=_RUN
    )
    logs_dir: str = option("logs/lifelong", "--logs-dir", help="folder of the stream, one folder per stage", group=_RUN)
    resume: bool = option(
        True, "--resume", help="go on where a stopped stream was; --no-resume insists on a new --logs-dir", group=_RUN
    )
    evaluate: int = option(
        0, "--evaluate", help="evaluate the new data set every N epochs of its training; 0 never", group=_RUN, ge=0
    )
    save_freq: int = option(1000, "--save-freq", help="keep checkpoint-epochN every N epochs", group=_RUN, ge=1)
    save_minutes: float = option(
        10, "--save-minutes", help="write the state of unfinished work every so often", group=_RUN, ge=0
    )
    print_freq: int = option(1, "--print-freq", help="log every N iterations", group=_RUN, ge=1)

    @field_validator("tasks")
    @classmethod
    def _all_different(cls, tasks: list[str]) -> list[str]:
        twice = sorted({task for task in tasks if tasks.count(task) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} is named twice; a stream learns each data set once")
        if not all(task.strip() for task in tasks):
            raise ValueError("one of the names is empty")
        return tasks

    @model_validator(mode="after")
    def _some_task(self) -> LifelongOptions:
        if not self.tasks:
            raise ValueError("--tasks is missing; give the data sets in the order of learning")
        return self
