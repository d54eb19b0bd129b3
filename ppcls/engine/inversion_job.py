"""Dreaming the images of a checkpoint's classes: options in, a folder of JPEGs out."""

from __future__ import annotations

import math
from pathlib import Path

from ppcls.arch.reid_net import ReIDNet
from ppcls.configs.schema import InversionOptions
from ppcls.engine.checkpoint import load_checkpoint, load_stored
from ppcls.engine.device import select_device
from ppcls.engine.jobs import inherit
from ppcls.inversion import DreamConfig, DreamReport, dream, measure_quality
from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_write_json
from ppcls.utils.logger import get_logger, log_to_file, stop_logging_to


def invert(options: InversionOptions) -> DreamReport:
    """Dream ``options.shots`` images of every class of ``options.teacher``; goes on where a stopped job was.

    Raises:
        UserError: no teacher, a folder of another job, flags that contradict the checkpoint.
    """
    options = options.model_copy()  # what is inherited from the teacher is not the caller's wish
    select_device(options.gpu)
    teacher = load_stored(options.teacher, options)
    inherit(options, teacher.arch)
    if not teacher.net.num_classes:
        raise UserError(f"{teacher.path} has no classifier; --teacher must be a training run's checkpoint")
    student = load_checkpoint(options.student).net if options.student else None
    folder = _folder(options)
    name = "log.txt" if options.num_shards == 1 else f"log-{options.shard}of{options.num_shards}.txt"
    log = log_to_file(folder / name)
    try:
        return _dream(options, folder, teacher.net, student)
    finally:
        stop_logging_to(log)


def _dream(options: InversionOptions, folder: Path, teacher: ReIDNet, student: ReIDNet | None) -> DreamReport:
    report = dream(
        teacher,
        folder,
        dream_config(options),
        shots=options.shots,
        seed=options.seed,
        iters=options.iters,
        num_shards=options.num_shards,
        shard=options.shard,
        adopt=options.resume is not None,
        student=student,
        jpeg_quality=options.jpeg_quality,
        snapshot_seconds=options.save_minutes * 60 or math.inf,
    )
    if options.verifier and report.complete:
        _verify(options, report)
    return report


def dream_config(options: InversionOptions) -> DreamConfig:
    """The settings of the optimisation alone."""
    return DreamConfig(
        steps=options.steps,
        lr=options.lr,
        r_feature=options.r_feature,
        first_bn_multiplier=options.first_bn_multiplier,
        tv_l1=options.tv_l1,
        tv_l2=options.tv_l2,
        l2=options.l2,
        main_loss_multiplier=options.main_loss_multiplier,
        adi_scale=options.adi_scale,
        height=options.height,
        width=options.width,
        batch_size=options.bs,
        warmup=options.warmup,
    )


def _folder(options: InversionOptions) -> Path:
    if options.resume is None:
        return Path(options.generation_dir)
    folder = Path(options.resume)
    if not folder.is_dir():
        raise UserError(f"--resume {folder}: no such folder")
    if "generation_dir" in options.model_fields_set and Path(options.generation_dir).resolve() != folder.resolve():
        raise UserError(f"--resume {folder} and --generation-dir {options.generation_dir} differ; give one of them")
    return folder


def _verify(options: InversionOptions, report: DreamReport) -> None:
    """What another network makes of the finished images: a check that they are not the teacher's private noise."""
    verifier = load_checkpoint(options.verifier).net
    quality = measure_quality(verifier, report.folder, height=options.height, width=options.width)
    atomic_write_json(report.folder / "report" / "verifier.json", quality)
    get_logger().info("verifier %s: accuracy %.1f%% on the saved images", options.verifier, 100 * quality["accuracy"])
