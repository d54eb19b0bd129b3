"""A whole dreaming job: batches in, a folder of images with manifest, quality report and contact sheet out."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from paddle import nn
from tqdm import tqdm

from ppcls.inversion.archive import Archive, ImageRecord, encode_jpeg, image_name, list_images
from ppcls.inversion.config import DreamConfig
from ppcls.inversion.contact_sheet import write_contact_sheet
from ppcls.inversion.quality import measure_quality
from ppcls.inversion.small_maps import small_map_convolutions
from ppcls.inversion.synthesizer import Dream, DreamedBatch, Synthesizer, frozen
from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_write_json, digest
from ppcls.utils.logger import bold, get_logger
from ppcls.utils.seeding import numpy_legacy_rng

_LOG_EVERY = 10
_EMA = 0.9


@dataclass(frozen=True)
class Progress:
    """What a ``callback`` of :func:`dream` is told after every step.

    Attributes:
        batch: number of the batch in the whole job; ``step``: steps made of it; ``steps``: its steps in all.
        work: finished part of this process's share of the job, 0 to 1 (a half-resolution step counts a quarter).
        images_per_hour: speed of this process since it started, in finished-image equivalents.
        losses: numbers of :meth:`StepTerms.numbers` every tenth step, otherwise None.
    """

    batch: int
    step: int
    steps: int
    work: float
    images_per_hour: float
    losses: dict[str, float] | None


@dataclass(frozen=True)
class DreamReport:
    """Result of :func:`dream`.

    Attributes:
        folder: where the images are.
        images: number of images there, adopted ones included.
        dreamed: images that this call made.
        missing: images that the limit ``iters`` leaves missing.
        complete: whether all batches (of all shards) up to the limit are there.
        seconds: duration of this call's optimisation.
        quality: see :func:`~ppcls.inversion.quality.measure_quality`; None unless complete.
        contact_sheet: path of the PNG; None unless complete.
    """

    folder: Path
    images: int
    dreamed: int
    missing: int
    complete: bool
    seconds: float
    quality: dict | None
    contact_sheet: Path | None


def dream(
    net: nn.Layer,
    folder: str | Path,
    config: DreamConfig | None = None,
    *,
    shots: int = 10,
    seed: int = 0,
    iters: int | None = None,
    num_shards: int = 1,
    shard: int = 0,
    adopt: bool = False,
    student: nn.Layer | None = None,
    jpeg_quality: int = 75,
    snapshot_seconds: float = 60.0,
    report: bool = True,
    progress: bool = True,
    callback: Callable[[Progress], None] | None = None,
    logger: logging.Logger | None = None,
) -> DreamReport:
    """Dream ``shots`` images of every class of ``net`` into ``folder``; goes on where an earlier call stopped.

    The images depend on the teacher, ``config``, ``shots`` and ``seed``: not on interruptions or on how the work
    was split. ``net`` (and ``student``) are used frozen and are given back in the mode they came in.

    Args:
        net: the teacher; ``net(x).logits`` [B, C] and ``net.num_classes``.
        folder: of the images; made if missing.
        config: default: the published settings.
        shots: images per class, reached exactly.
        seed: of targets, noise and flips.
        iters: make at most so many batches in all; None: as many as needed.
        num_shards: processes or machines that share ``folder``.
        shard: which of them this is.
        adopt: count images already in the folder towards ``shots``.
        student: for ``config.adi_scale`` != 0.
        jpeg_quality: 1 to 95.
        snapshot_seconds: a kill loses at most so much work inside a batch; the result is the same for all values.
        report: at the end of the whole job write ``report/quality.json`` and ``report/contact_sheet.png``.
        progress: show a bar with ETA and images/hour.
        callback: called after every step.
        logger: default: the project's.

    Raises:
        UserError: impossible settings, a folder of another job, or a diverging optimisation.
    """
    config = config or DreamConfig()
    logger = logger or get_logger()
    if not 1 <= jpeg_quality <= 95:
        raise UserError(f"jpeg_quality {jpeg_quality} must be from 1 to 95")
    if net.num_classes < 1:
        raise UserError("the teacher has no classifier; dreaming needs one with at least one class")
    settings = {
        **config.as_dict(),
        "jpeg_quality": jpeg_quality,
        "teacher": state_digest(net),
        "student": None if student is None else state_digest(student),
    }
    archive = Archive(
        folder,
        shots=shots,
        num_classes=net.num_classes,
        batch_size=settings.pop("batch_size"),
        seed=seed,
        settings=settings,
        iters=iters,
        num_shards=num_shards,
        shard=shard,
        adopt=adopt,
    )
    with archive, contextlib.ExitStack() as stack:
        for model in (net, student):
            if model is not None:
                stack.enter_context(frozen(model))
                stack.enter_context(small_map_convolutions(model))
        worker = _Worker(archive, Synthesizer(net, config, student), seed, jpeg_quality, snapshot_seconds, logger)
        worker.announce()
        dreamed, seconds = worker.run(progress, callback)
        complete = archive.complete()
        quality, sheet = None, None
        if complete and report:
            quality, sheet = _write_report(net, archive.folder, config)
            logger.info(
                "%d images: teacher accuracy %.1f%%, mean confidence %.3f; contact sheet %s",
                quality["images"], 100 * quality["accuracy"], quality["confidence"], sheet,
            )  # fmt: skip
        images = len(list_images(archive.folder))
    return DreamReport(archive.folder, images, dreamed, archive.missing, complete, seconds, quality, sheet)


def state_digest(net: nn.Layer) -> str:
    """Digest of all parameters and running statistics with their names: tells one teacher from another."""
    parts = []
    for name, tensor in sorted(net.state_dict().items()):
        array = np.ascontiguousarray(tensor.numpy())
        parts.append(f"{name}:{array.dtype}:{array.shape}:{digest(array.tobytes(), 32)}")
    return digest("\n".join(parts).encode("utf-8"))


def _write_report(net, folder, config):
    # in a folder of its own: a flat PNG would be taken for a dreamed image
    quality = measure_quality(net, folder, config.height, config.width, config.batch_size)
    atomic_write_json(folder / "report" / "quality.json", quality)
    sheet = write_contact_sheet(folder, folder / "report" / "contact_sheet.png")
    return quality, sheet


class _Worker:
    """Makes this process's batches one after the other."""

    def __init__(self, archive, synthesizer, seed, jpeg_quality, snapshot_seconds, logger):
        self._archive = archive
        self._synthesizer = synthesizer
        self._config = synthesizer.config
        self._seed = seed
        self._jpeg_quality = jpeg_quality
        self._snapshot_seconds = snapshot_seconds
        self._logger = logger
        self._pending = archive.pending()
        self._averages: dict[str, float] = {}

    def announce(self):
        """Say what is there and what will be made."""
        archive = self._archive
        todo = sum(len(archive.schedule[k]) for k in self._pending)
        self._logger.info(
            "%s: %d images planned in %d batches, %d adopted; shard %d of %d has %d images (%d batches) to dream",
            archive.folder, archive.planned, archive.limit, archive.adopted,
            archive.shard, archive.num_shards, todo, len(self._pending),
        )  # fmt: skip
        if archive.missing:
            self._logger.warning(
                bold("the limit of %d batches leaves %d images missing; %d batches would make them all"),
                archive.limit, archive.missing, len(archive.schedule),
            )  # fmt: skip

    def run(self, progress, callback):
        """Dream all pending batches. → (images made, seconds)."""
        work = _Meter(self._config, [len(self._archive.schedule[k]) for k in self._pending])
        dreamed = 0
        with tqdm(
            total=100.0,
            disable=None if progress and self._pending else True,  # None: only on a terminal
            desc="Dreaming",
            bar_format="{desc} {percentage:5.1f}%|{bar}| {elapsed}<{remaining} {postfix}",
        ) as bar:

            def report(batch, iteration, losses):
                bar.set_postfix_str(
                    f"batch {batch + 1}/{self._archive.limit}, step {iteration}/{self._config.total_steps}, "
                    f"{work.images_per_hour():.0f} images/h",
                    refresh=False,
                )
                bar.initial = 100.0 * work.skipped_part()  # or the ETA would count what an earlier process did
                bar.update(100.0 * work.part() - bar.n)
                if callback is not None:
                    steps = self._config.total_steps
                    callback(Progress(batch, iteration, steps, work.part(), work.images_per_hour(), losses))

            for batch in self._pending:
                self._dream_batch(batch, work, report)
                dreamed += len(self._archive.schedule[batch])
        return dreamed, work.seconds()

    def _dream_batch(self, batch, work, report):
        rng = numpy_legacy_rng(self._seed, "dream-batch", batch)
        current = self._synthesizer.start(self._archive.schedule[batch], rng)
        state = self._archive.load_state(batch)
        if state is not None:
            current.restore(state)
            self._logger.info("batch %d goes on at step %d", batch, current.iteration)
        work.skip(current)
        saved = time.monotonic()
        while not current.done:
            phase = current.phase
            terms = current.step()
            work.add(current, phase)
            losses = None
            if current.iteration % _LOG_EVERY == 0 or current.done:
                losses = terms.numbers()
                self._log(batch, current, losses)
            if not current.done and time.monotonic() - saved >= self._snapshot_seconds:
                self._archive.save_state(batch, current.state())
                saved = time.monotonic()
            report(batch, current.iteration, losses)
        self._store(batch, current.finish())
        self._logger.info("==> Finish Generation No. %d", batch)

    def _store(self, batch, result: DreamedBatch):
        jpegs = [encode_jpeg(image, self._jpeg_quality) for image in result.images]
        records = [
            ImageRecord(
                file=image_name(int(target), jpegs[slot]),
                target=int(target),
                batch=batch,
                slot=slot,
                batch_images=len(jpegs),
                seed=self._seed,
                steps=list(self._config.steps),
                ce=_short(result.cross_entropy[slot]),
                confidence=_short(result.confidence[slot]),
                predicted=int(result.predicted[slot]),
                bn_loss=_short(result.bn_loss),
            )
            for slot, target in enumerate(result.targets)
        ]
        self._archive.commit(batch, jpegs, records)

    def _log(self, batch, current: Dream, losses):
        def pair(key):
            value = losses[key]
            self._averages[key] = _EMA * self._averages.get(key, value) + (1 - _EMA) * value
            return f"{self._averages[key]:.4f}/{value:.4f}"

        self._logger.info(
            f"[{batch}][{current.iteration}/{self._config.total_steps}]: Total Loss: {pair('total')}, "
            f"R Loss: {pair('statistics')}, CE Loss: {pair('cross_entropy')}, "
            f"Prior Loss: {pair('prior')}, Accuracy: {pair('accuracy')}"
        )


class _Meter:
    """Work done and speed; a step of phase 1 has a quarter of the pixels of one of phase 2."""

    def __init__(self, config, sizes):
        self._steps = config.steps
        self._batch_cost = config.steps[0] / 4 + config.steps[1]
        self._total = sum(sizes)
        self._images = 0.0  # finished-image equivalents, resumed ones included
        self._mine = 0.0
        self._start = time.monotonic()

    def skip(self, current: Dream):
        """Count the steps that an earlier process made of this batch."""
        first = min(current.iteration, self._steps[0])
        cost = first / 4 + (current.iteration - first)
        self._images += len(current.targets) * cost / self._batch_cost

    def add(self, current: Dream, phase: int):
        """Count one step of ``phase``."""
        images = len(current.targets) * (0.25 if phase == 1 else 1.0) / self._batch_cost
        self._images += images
        self._mine += images

    def skipped_part(self) -> float:
        """The part of the work that earlier processes did, 0 to 1."""
        return (self._images - self._mine) / self._total

    def part(self) -> float:
        """Finished part of the work, 0 to 1."""
        return min(1.0, self._images / self._total)

    def seconds(self) -> float:
        """Time since the start."""
        return time.monotonic() - self._start

    def images_per_hour(self) -> float:
        """Speed of this process."""
        return 3600 * self._mine / max(self.seconds(), 1e-9)


def _short(value) -> float:
    """Six significant digits: enough to read, and the same text from float32 and float64."""
    return float(f"{float(value):.6g}")
