"""What each kind of stage does. A job is a function of the stage and its folder that can be killed and called again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ppcls.arch.reid_net import build_net
from ppcls.configs.evaluation import EvaluateOptions
from ppcls.configs.schema import TrainOptions
from ppcls.data.dataset import open_dataset
from ppcls.engine.checkpoint import CHECKPOINT, load_checkpoint, save_checkpoint
from ppcls.engine.device import select_device
from ppcls.engine.evaluation_job import evaluate_network
from ppcls.engine.inversion_job import invert
from ppcls.engine.jobs import finetune, increment, start_weights, train
from ppcls.engine.stream.deletion import delete_data
from ppcls.engine.stream.plan import Stage
from ppcls.utils.files import atomic_write_json, digest_file

EVALUATION = "evaluation.json"

Work = Callable[[Stage, Path], Any]
"""``work(stage, folder)``: do, or go on with, the job of ``stage``; what it leaves is in ``folder``."""


def make_untrained(options: TrainOptions, folder: Path) -> None:
    """The network that task 1 would start from, as a checkpoint."""
    select_device(options.gpu)
    data = open_dataset(options.dataset, options.data_root, ("train",))
    arch = {
        "depth": options.depth,
        "last_stride": options.last_stride,
        "pooling": options.last_pooling,
        "neck_bias": options.neck_bias,
        "variant": options.variant,
    }
    net = build_net(**arch, num_classes=data.num_train_ids, seed=options.seed)
    start_weights(net, options, data)
    save_checkpoint(folder / CHECKPOINT, net, 1, {**arch, "height": options.height, "width": options.width})


def evaluate_domains(options: EvaluateOptions, folder: Path) -> None:
    """One checkpoint on every data set; what is in ``evaluation.json`` of the same checkpoint is not repeated."""
    select_device(options.gpu)
    path = folder / EVALUATION
    checkpoint = digest_file(Path(options.ckpt) / CHECKPOINT)
    found = read_evaluation(folder) if path.is_file() else {}
    results = found["results"] if found.get("checkpoint") == checkpoint else {}
    missing = [name for name in options.dataset if name not in results]
    loaded = load_checkpoint(options.ckpt) if missing else None
    for name in missing:
        data = open_dataset(name, options.data_root, ("query", "gallery"))
        results[name] = [result.as_dict() for result in evaluate_network(loaded, [data], options)]
        atomic_write_json(path, {"checkpoint": checkpoint, "results": results})


def read_evaluation(folder: Path) -> dict[str, Any]:
    """``{"checkpoint": digest, "results": {data set: [one entry per query set, and their mean]}}``."""
    return json.loads((folder / EVALUATION).read_text(encoding="utf-8"))


WORK: dict[str, Work] = {
    "start": lambda stage, folder: make_untrained(stage.options, folder),
    "train": lambda stage, _: train(stage.options),
    "finetune": lambda stage, _: finetune(stage.options),
    "increment": lambda stage, _: increment(stage.options),
    "dream": lambda stage, _: invert(stage.options),
    "evaluate": lambda stage, folder: evaluate_domains(stage.options, folder),
    "delete": lambda stage, folder: delete_data(stage.options, folder),
}
