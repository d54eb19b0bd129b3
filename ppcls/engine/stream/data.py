"""Before a stream starts: is the data of all its stages there, and enough for their batches?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ppcls.configs.schema import TrainOptions
from ppcls.data.dataset import ReIDData, open_dataset
from ppcls.data.sampler import PKSampler
from ppcls.engine.stream.ledger import DONE
from ppcls.engine.stream.plan import TRAINING, DeleteOptions, Stage
from ppcls.utils.errors import UserError


def check_data(stages: Sequence[Stage], states: Mapping[str, str], *, agreed: bool) -> None:
    """Open every data set that a stage which is not done will read; what only done stages read may be gone.

    Args:
        agreed: whether original images may be removed.

    Raises:
        UserError: a missing or unreadable data set, fewer ids than a batch needs, the same data set under two names,
            an unfinished removal of original images without agreement.
    """
    pending = [stage for stage in stages if states[stage.name] != DONE]
    _check_agreement(pending, agreed)
    opened = {}
    for name, (root, splits) in _wanted(pending).items():
        opened[name] = open_dataset(name, root, sorted(splits))
    _check_different(opened)
    _check_batches(pending, opened)


def _check_agreement(pending: Sequence[Stage], agreed: bool) -> None:
    for stage in pending:
        if not isinstance(stage.options, DeleteOptions) or stage.options.dataset is None:
            continue
        if not agreed:
            raise UserError(
                f"--earlier-data delete will remove the original training images of {stage.options.dataset}; "
                "add --yes if that is what you want"
            )


def _wanted(pending: Sequence[Stage]) -> dict[str, tuple[str, set[str]]]:
    """Data set → (data root, splits)."""
    wanted: dict[str, tuple[str, set[str]]] = {}
    for stage in pending:
        options = stage.options
        if stage.kind in TRAINING:
            splits = {"train", "query", "gallery"} if options.evaluate and stage.kind != "start" else {"train"}
            wanted.setdefault(options.dataset, (options.data_root, set()))[1].update(splits)
        for name in stage.parts:
            wanted.setdefault(name, (options.data_root, set()))[1].update({"query", "gallery"})
    return wanted


def _check_different(opened: Mapping[str, ReIDData]) -> None:
    """Two spellings of one data set would make it two domains."""
    known: dict[tuple[str, str], str] = {}
    for name, data in opened.items():
        kind = data.name.partition(":")[0]
        key = (kind if kind in ("folder", "csv") else data.name, str(Path(data.root).resolve()))
        if key in known:
            raise UserError(f"--tasks names the data set {data.root} twice: {known[key]} and {name}; leave one out")
        known[key] = name


def _check_batches(pending: Sequence[Stage], opened: Mapping[str, ReIDData]) -> None:
    """The samplers of all tasks to come, so that task 3's error is not found after two days of tasks 1 and 2."""
    ids: int | None = 0 if any(stage.kind == "train" for stage in pending) else None
    for stage in pending:
        options = stage.options
        if not isinstance(options, TrainOptions) or stage.kind == "start":
            continue
        data = opened[options.dataset]
        try:
            PKSampler(data.train, options.batch_size, options.instances)
        except UserError as error:
            raise UserError(f"{stage.name} cannot draw its batches from {options.dataset}: {error}") from error
        if ids is None:
            continue  # how many earlier tasks had is known to their checkpoints alone
        if len(stage.inputs) > 1 and ids * options.instances < options.batch_size:
            raise UserError(
                f"{stage.name} needs {options.batch_size // options.instances} persons in a batch of dreamed images, "
                f"but the tasks before it have {ids}; the largest --batch-size that fits is {ids * options.instances}"
            )
        ids += data.num_train_ids
