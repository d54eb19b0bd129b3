"""What happens beside training: lines, records, checkpoints, evaluation."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from ppcls.data.transform import MEAN, STD
from ppcls.engine.checkpoint import save_checkpoint
from ppcls.engine.run_folder import RunFolder
from ppcls.engine.trainer import Hook, Trainer
from ppcls.utils.logger import get_logger


class LogHook(Hook):
    """One line per iteration in the published format, then costs and ETA; ``metrics.jsonl``; a bar on a terminal."""

    def __init__(self, run: RunFolder, every: int = 1) -> None:
        self.run = run
        self.every = every
        self._bar: tqdm | None = None
        self._last = ""

    def before_training(self, trainer: Trainer) -> None:
        if sys.stderr.isatty():
            done = sum(trainer.data.steps(e) for e in range(1, trainer.epoch)) + trainer.iteration
            total = sum(trainer.data.steps(e) for e in range(1, trainer.epochs + 1))
            self._bar = tqdm(total=total, initial=done, unit="it", dynamic_ncols=True)

    def after_step(self, trainer: Trainer) -> None:
        if self._bar:
            self._bar.update()
        if trainer.iteration % self.every and trainer.iteration != trainer.steps:
            return
        meters = trainer.meters
        losses = "".join(f", {title(name)}: {meters[name]}" for name in trainer.terms)
        ips = trainer.images / max(trainer.batch_cost, 1e-9)
        get_logger().info(
            "Epoch: [%d][%d/%d], Batch Time: %s%s, "
            "reader_cost: %.4f s, batch_cost: %.4f s, ips: %.2f images/s, eta: %s",
            trainer.epoch, trainer.iteration, trainer.steps, meters["batch_time"], losses,
            trainer.reader_cost, trainer.batch_cost, ips, self._eta(trainer),
        )  # fmt: skip
        costs = {"batch_cost": trainer.batch_cost, "reader_cost": trainer.reader_cost, "ips": ips}
        rate = trainer.optimizer.get_lr()
        where = {"kind": "train", "epoch": trainer.epoch, "iteration": trainer.iteration}
        self.run.record({**where, **trainer.terms, "learning_rate": rate, **costs})

    def after_epoch(self, trainer: Trainer) -> None:
        lr = trainer.learning_rate(trainer.epoch)
        get_logger().info("\n * Finished epoch %d learning rate %s \n", trainer.epoch, f"{lr:.6g}")

    def close(self) -> None:
        if self._bar:
            self._bar.close()

    def _eta(self, trainer: Trainer) -> str:
        left = trainer.steps - trainer.iteration + (trainer.epochs - trainer.epoch) * trainer.steps
        seconds = int(left * (trainer.meters["batch_time"].average or 0.0))
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


class VisualDLHook(Hook):
    """Scalars of every step, and the first batch's images, for ``visualdl --logdir RUN/visualdl``.

    A resumed run writes its records anew from ``metrics.jsonl``, so that no step stands there twice.
    """

    def __init__(self, run: RunFolder) -> None:
        self.run = run
        self._writer = None

    def before_training(self, trainer: Trainer) -> None:
        from visualdl import LogWriter

        shutil.rmtree(self.run.records, ignore_errors=True)
        self._writer = LogWriter(logdir=str(self.run.records))
        for line in self.run.metrics():
            self._write(trainer, line)
        self._show_images(trainer)

    def after_step(self, trainer: Trainer) -> None:
        rate = trainer.optimizer.get_lr()
        self._write_step(trainer, trainer.epoch, trainer.iteration, {**trainer.terms, "learning_rate": rate})

    def after_epoch(self, trainer: Trainer) -> None:
        for line in self.run.metrics():
            if line["kind"] == "evaluate" and line["epoch"] == trainer.epoch:
                self._write(trainer, line)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

    def _write(self, trainer: Trainer, line: Mapping[str, Any]) -> None:
        if line["kind"] == "evaluate":
            self._writer.add_scalar(f"evaluate/{line['dataset']}/mAP", line["mAP"], line["epoch"])
            self._writer.add_scalar(f"evaluate/{line['dataset']}/top-1", line["cmc"]["1"], line["epoch"])
        else:
            costs = ("kind", "epoch", "iteration", "batch_cost", "reader_cost", "ips")
            values = {name: value for name, value in line.items() if name not in costs}
            self._write_step(trainer, line["epoch"], line["iteration"], values)

    def _write_step(self, trainer: Trainer, epoch: int, iteration: int, values: Mapping[str, float]) -> None:
        step = sum(trainer.data.steps(e) for e in range(1, epoch)) + iteration
        for name, value in values.items():
            self._writer.add_scalar(f"train/{name}", value, step)

    def _show_images(self, trainer: Trainer) -> None:
        batches = trainer.data.epoch(1)
        for stream, batch in next(batches).items():
            for number, images in enumerate(batch.images):
                row = _to_uint8(images[:8])
                self._writer.add_image(f"{stream}/view{number}", np.concatenate(list(row), axis=1), 0)
        batches.close()


class CheckpointHook(Hook):
    """``checkpoint.pdparams`` each epoch, ``checkpoint-epochN.pdparams`` every ``save_freq``; the resume state."""

    def __init__(self, run: RunFolder, arch: Mapping[str, Any], save_freq: int, save_minutes: float):
        self.run, self.arch = run, arch
        self.save_freq = save_freq
        self.save_seconds = save_minutes * 60 if save_minutes else float("inf")
        self._saved = time.monotonic()

    def after_step(self, trainer: Trainer) -> None:
        if time.monotonic() - self._saved > self.save_seconds:
            self._save_state(trainer)

    def after_epoch(self, trainer: Trainer) -> None:
        self._save_state(trainer)
        following = trainer.epoch + 1
        save_checkpoint(self.run.checkpoint, trainer.method.net, following, self.arch)
        if trainer.epoch % self.save_freq == 0:
            path = self.run.path / f"checkpoint-epoch{trainer.epoch}.pdparams"
            save_checkpoint(path, trainer.method.net, following, self.arch)

    def _save_state(self, trainer: Trainer) -> None:
        self.run.save_state(trainer.state_dict())
        self._saved = time.monotonic()


class EvaluateHook(Hook):
    """Retrieval accuracy every ``every`` epochs; what a killed run has already recorded is not computed again."""

    def __init__(self, run: RunFolder, every: int, evaluate: Callable[[Any], list[dict[str, Any]]]) -> None:
        self.run, self.every, self.evaluate = run, every, evaluate

    def after_epoch(self, trainer: Trainer) -> None:
        if not self.every or trainer.epoch % self.every:
            return
        if any(line["kind"] == "evaluate" and line["epoch"] == trainer.epoch for line in self.run.metrics()):
            return
        where = {"kind": "evaluate", "epoch": trainer.epoch, "iteration": trainer.iteration}
        self.run.record(*({**where, **result} for result in self.evaluate(trainer.method.net)))


class ProfileHook(Hook):
    """A trace of the first ``steps`` steps in chrome's format, in the run folder."""

    def __init__(self, run: RunFolder, steps: int) -> None:
        self.run, self.steps = run, steps
        self._profiler = None

    def before_training(self, trainer: Trainer) -> None:
        from paddle import profiler

        export = profiler.export_chrome_tracing(str(self.run.path / "profile"))
        self._profiler = profiler.Profiler(scheduler=(0, self.steps), on_trace_ready=export)
        self._profiler.start()

    def after_step(self, trainer: Trainer) -> None:
        if self._profiler:
            self._profiler.step()

    def close(self) -> None:
        if self._profiler:
            self._profiler.stop()


def _to_uint8(images: np.ndarray) -> np.ndarray:
    """Normalised [B, 3, H, W] → uint8 [B, H, W, 3]."""
    pixels = images.transpose(0, 2, 3, 1) * np.float32(STD) + np.float32(MEAN)
    return (pixels.clip(0, 1) * 255).astype(np.uint8)


def title(name: str) -> str:
    """``"pid_loss"`` → ``"Pid Loss"``."""
    return name.replace("_", " ").title()
