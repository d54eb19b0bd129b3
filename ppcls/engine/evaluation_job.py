"""Evaluating checkpoints on disk, and the files that record it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ppcls.configs.evaluation import EvaluateOptions
from ppcls.data.dataset import ReIDData, open_dataset
from ppcls.data.sample import Sample
from ppcls.engine.checkpoint import CHECKPOINT, Checkpoint, find_checkpoint, load_stored
from ppcls.engine.device import select_device
from ppcls.engine.evaluator import Evaluation, EvaluationProtocol, Inspect, evaluate
from ppcls.engine.figures import rank_list
from ppcls.metric.ranking import RankingResult, top_k
from ppcls.retrieval.extractor import FeatureExtractor
from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_write_json, atomic_write_text
from ppcls.utils.logger import get_logger

TEXT, JSON = "eval.txt", "eval.json"
_SHOWN_RANKS = 10
_DEFAULT_SIZE = {"height": 256, "width": 128}


def evaluate_checkpoints(options: EvaluateOptions) -> dict[Path, list[Evaluation]]:
    """Every checkpoint on every data set; with ``--output`` recorded beside each checkpoint.

    Raises:
        UserError: no checkpoint, a missing data set, flags that contradict the checkpoint.
    """
    select_device(options.gpu)
    sets = [open_dataset(name, options.data_root, ("query", "gallery")) for name in options.dataset]
    found = {}
    for path in checkpoints(options.ckpt, options.recursive):
        loaded = load_stored(path, options)
        get_logger().info("%s (epoch %d)", path, loaded.epoch)
        found[path] = evaluate_network(loaded, sets, options)
        if options.output:
            record(path, loaded.epoch, options, found[path])
    return found


def evaluate_network(loaded: Checkpoint, sets: Iterable[ReIDData], options: EvaluateOptions) -> list[Evaluation]:
    """One loaded checkpoint on several data sets."""
    extractor = FeatureExtractor(
        loaded.net,
        _size("height", options, loaded),
        _size("width", options, loaded),
        feature=options.output_feature,
        flip=options.flip,
        batch_size=options.batch_size,
        workers=options.workers,
    )
    protocol = EvaluationProtocol(options.metric, options.ap, options.re_ranking)
    results = []
    for data in sets:
        get_logger().info("%s", data.banner())
        results += evaluate(extractor, data, protocol, inspect=_rank_pictures(loaded.path, data, options))
    return results


def _rank_pictures(path: Path, data: ReIDData, options: EvaluateOptions) -> Inspect | None:
    """Draws evenly spaced queries, from worst to best AP, with their nearest gallery images."""
    if not options.rank_list:
        return None

    def draw(name: str, samples: list[Sample], query: np.ndarray, gallery: np.ndarray, found: RankingResult) -> None:
        valid = np.flatnonzero(np.isfinite(found.ap_per_query))
        by_ap = valid[np.argsort(found.ap_per_query[valid], kind="stable")]
        chosen = by_ap[np.linspace(0, len(by_ap) - 1, min(options.rank_list, len(by_ap))).astype(int)]
        nearest, _ = top_k(query[chosen], gallery, min(_SHOWN_RANKS, len(gallery)), options.metric)
        shown = [samples[q] for q in chosen]
        rows = [[data.gallery[index] for index in row] for row in nearest]
        right = [[image.pid == q.pid for image in row] for q, row in zip(shown, rows, strict=True)]
        junk = [
            [image.pid == q.pid and image.camid == q.camid for image in row] for q, row in zip(shown, rows, strict=True)
        ]
        pictures = [[image.path for image in row] for row in rows]
        which = "" if path.name == CHECKPOINT else f"{path.stem}-"
        target = path.parent / f"ranks-{which}{Path(name).name}.png"
        ap = found.ap_per_query[chosen]
        rank_list([q.path for q in shown], pictures, right, target, junk=junk, ap=ap)
        get_logger().info("rank list in %s", target)

    return draw


def checkpoints(source: str, recursive: bool) -> list[Path]:
    """The file, the folder's checkpoint, or all ``checkpoint*.pdparams`` below the folder."""
    if not recursive:
        return [find_checkpoint(source)]
    paths = sorted(Path(source).glob("**/checkpoint*.pdparams"))
    if not paths:
        raise UserError(f"--recursive: no checkpoint*.pdparams below {source}")
    return paths


def record(path: Path, epoch: int, options: EvaluateOptions, results: list[Evaluation]) -> None:
    """Append to ``eval.txt`` in the published format, and set this checkpoint's entry of ``eval.json``."""
    shown = ", ".join(f"{key}={value!r}" for key, value in options.model_dump().items())
    lines = [f"Namespace({shown})", str(path), f"Epoch: {epoch}"]
    for result in results:
        lines += [f"{result.dataset}:", f"    mAP: {result.mAP:.1%}"]
        lines += [f"    CMC-{k:<3}: {value:.1%}" for k, value in result.cmc.items()]
    text = path.parent / TEXT
    before = text.read_text(encoding="utf-8") if text.is_file() else ""
    atomic_write_text(text, before + "\n".join(lines) + "\n\n")
    file = path.parent / JSON
    entries = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    found = [result.as_dict() for result in results]
    entries[path.name] = {"epoch": epoch, "results": found, "options": options.model_dump()}
    atomic_write_json(file, entries)
    get_logger().info("recorded in %s and %s", text, path.parent / JSON)


def _size(which: str, options: EvaluateOptions, loaded: Checkpoint) -> int:
    return getattr(options, which) or loaded.arch.get(which) or _DEFAULT_SIZE[which]
