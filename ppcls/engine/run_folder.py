"""A run's folder: self-describing, never silently overwritten, safe to kill."""

from __future__ import annotations

import fcntl
import json
import logging
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import yaml

from ppcls.engine.checkpoint import CHECKPOINT
from ppcls.utils.errors import UserError
from ppcls.utils.files import (
    append_line,
    atomic_path,
    atomic_write_json,
    atomic_write_text,
    read_json_lines,
    sweep_temporaries,
)
from ppcls.utils.logger import get_logger, log_to_file, stop_logging_to
from ppcls.utils.weights_io import read_weights, write_pdparams

CONFIG, LOG, METRICS, STATE, INPUTS = "config.yaml", "log.txt", "metrics.jsonl", "state.pdstate", "inputs.json"
_RECORDS = "visualdl"
_OWN = (CONFIG, LOG, METRICS, STATE, INPUTS, _RECORDS, "profile", "checkpoint*.pdparams", "eval.*", "ranks-*.png")
#: Options that may change between a stopped run and its continuation: they do not enter the weights.
_FREE = {
    "resume", "gpu", "workers", "preload", "cache_mb", "evaluate", "save_freq", "save_minutes", "print_freq",
    "profile", "logs_dir", "epochs", "data_root", "pretrained", "previous", "inversion_dir",
}  # fmt: skip


class RunFolder:
    """One training run on disk: config, log, metrics, VisualDL records, checkpoints, resume state."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._log: logging.Handler | None = None
        self._lock: IO[str] | None = None

    @property
    def checkpoint(self) -> Path:
        """The file that the next command reads."""
        return self.path / CHECKPOINT

    @property
    def records(self) -> Path:
        """VisualDL's folder."""
        return self.path / _RECORDS

    def start(self, options: Mapping[str, Any], inputs: Mapping[str, str] | None = None) -> None:
        """Begin a new run; the files of an earlier one are moved into ``earlier-N`` and this is said.

        ``inputs``: digests of what the run reads besides its options.
        """
        self._hold()
        aside = self._move_aside()
        self._write_config(options)
        atomic_write_json(self.path / INPUTS, dict(inputs or {}))
        self._open_log()
        if aside:
            get_logger().info("%s held an earlier run; its files are in %s", self.path, aside)

    def go_on(self, options: Mapping[str, Any], inputs: Mapping[str, str] | None = None) -> None:
        """Continue this folder's run with ``options``, which must agree with it in all that enters the weights."""
        self._hold()
        self.check(options, inputs)
        self._write_config(options)
        self._open_log()

    def check(self, options: Mapping[str, Any], inputs: Mapping[str, str] | None = None) -> None:
        """Raise :class:`UserError` where ``options`` or ``inputs`` differ from those of the folder's run."""
        stored = self.stored_options()
        for key, value in options.items():
            if key not in _FREE and key in stored and stored[key] != _plain(value):
                raise UserError(
                    f"--resume: {key} is {value!r} but the stopped run in {self.path} has {stored[key]!r}; use the same"
                )
        before = json.loads((self.path / INPUTS).read_text(encoding="utf-8")) if (self.path / INPUTS).exists() else {}
        for name, digest in (inputs or {}).items():
            if before.get(name, digest) != digest:
                raise UserError(f"--resume: {name} is not what the stopped run in {self.path} read; use the same")

    @property
    def has_state(self) -> bool:
        """Whether there is something to resume."""
        return (self.path / STATE).is_file()

    def stored_options(self) -> dict[str, Any]:
        """The options that the folder's run was started with; empty if there is none."""
        path = self.path / CONFIG
        return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def close(self) -> None:
        """Detach the log file."""
        if self._log is not None:
            stop_logging_to(self._log)
            self._log = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def record(self, *records: Mapping[str, Any]) -> None:
        """Append one line each to ``metrics.jsonl``, all or none of them."""
        append_line(self.path / METRICS, *(json.dumps(values, ensure_ascii=False) for values in records))

    def metrics(self) -> list[dict[str, Any]]:
        """All recorded lines."""
        return read_json_lines(self.path / METRICS)

    def forget_after(self, epoch: int, iteration: int) -> None:
        """Drop what was recorded after a position: the resumed run records it again."""
        kept = [line for line in self.metrics() if (line["epoch"], line.get("iteration", 0)) <= (epoch, iteration)]
        atomic_write_text(self.path / METRICS, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))

    def save_state(self, state: Mapping[str, Any]) -> None:
        """Write all that an exact resume needs, atomically."""
        write_pdparams(dict(state), self.path / STATE)

    def load_state(self) -> dict[str, Any] | None:
        """The saved state, or None."""
        path = self.path / STATE
        return read_weights(path) if path.is_file() else None

    def take_over(self, source: RunFolder) -> None:
        """Copy another run's record and state, so that ``--resume DIR`` goes on here and leaves DIR as it was.

        Raises:
            UserError: this folder holds a resumable run of its own.
        """
        if self.has_state:
            raise UserError(
                f"--logs-dir {self.path} holds a run of its own; give --resume alone to go on with it, "
                "or another --logs-dir"
            )
        self._hold()
        self._move_aside()
        for name in (CONFIG, INPUTS, METRICS, STATE):
            if (source.path / name).is_file():
                with atomic_path(self.path / name) as temporary:
                    shutil.copyfile(source.path / name, temporary)

    def _hold(self) -> None:
        """Keep other processes from training in this folder; the system frees it when the process dies."""
        if self._lock is not None:
            return
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = (self.path / ".lock").open("a")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"another process trains in {self.path}; wait, or give another --logs-dir") from error
        except OSError as error:
            raise UserError(f"--logs-dir {self.path}: cannot make the folder: {error.strerror}") from error

    def _move_aside(self) -> Path | None:
        old = [path for pattern in _OWN for path in sorted(self.path.glob(pattern))]
        if not old:
            return None
        number = 1
        while (self.path / f"earlier-{number}").exists():
            number += 1
        aside = self.path / f"earlier-{number}"
        aside.mkdir()
        for path in old:
            shutil.move(path, aside / path.name)
        return aside

    def _write_config(self, options: Mapping[str, Any]) -> None:
        plain = {key: _plain(value) for key, value in options.items()}
        atomic_write_text(self.path / CONFIG, yaml.safe_dump(plain, sort_keys=False, allow_unicode=True))

    def _open_log(self) -> None:
        sweep_temporaries(self.path)
        self._log = log_to_file(self.path / LOG)


def draw_seed() -> int:
    """A seed for a run that was given none; it is written to ``config.yaml``."""
    return secrets.randbelow(2**31)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
