"""What a chain leaves: status lines as TIPC users know them, and ``results.json`` for programs."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppcls.utils.files import append_line, atomic_write_json
from test_tipc.runner.commands import Command
from test_tipc.runner.dialects import CLAS

RESULTS = "results.json"
SUCCESSFUL, FAILED, INTERRUPTED, NOT_RUN = "successful", "failed", "interrupted", "not run"
_COLOUR, _PLAIN = "\033[33m", "\033[0m"  # the same for both outcomes, as in the scripts users know


def status_line(dialect: str, model: str, command: Command, successful: bool) -> str:
    """``Run successfully with command - …`` or ``Run failed with command - …``, coloured.

    The template dialect names the command, PaddleClas' the model and the log as well.
    """
    outcome = "Run successfully" if successful else "Run failed"
    if dialect == CLAS:
        return f"{_COLOUR} {outcome} with command - {model} - {command.shown} - {command.log} ! {_PLAIN}"
    return f"{_COLOUR} {outcome} with command - {command.shown} !  {_PLAIN}"


class Report:
    """Status lines of one run, printed and appended to ``log``; records in ``results.json`` beside it."""

    def __init__(self, log: Path, dialect: str, model: str, header: Mapping[str, Any]) -> None:
        self.log = log
        self._dialect, self._model = dialect, model
        self._started = time.monotonic()
        self._records: list[dict[str, Any]] = []
        began = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        self._header = {**header, "python": platform.python_version(), "machine": platform.machine(), "started": began}

    def status(self, command: Command, successful: bool) -> None:
        """Print and append the status line of a command."""
        line = status_line(self._dialect, self._model, command, successful)
        print(line, flush=True)
        append_line(self.log, line)

    def record(
        self,
        command: Command,
        outcome: str,
        exit_status: int | None = None,
        seconds: float | None = None,
        note: str = "",
        metrics: Mapping[str, Any] | None = None,
    ) -> None:
        """Add one command to ``results.json``; the file is whole after each of them."""
        entry = {
            "stage": command.stage,
            "command": command.shown,
            "argv": list(command.argv),
            "cwd": str(command.cwd),
            "status": outcome,
            "exit_status": exit_status,
            "seconds": None if seconds is None else round(seconds, 3),
            "log": str(command.log),
            "metrics": dict(metrics or {}),
        }
        self._records.append({**entry, **({"note": note} if note else {})})
        self.write("running")

    def seconds_of(self, command: Command) -> float:
        """How long a recorded command took."""
        return next(entry["seconds"] for entry in self._records if entry["log"] == str(command.log))

    def write(self, outcome: str) -> None:
        """Write ``results.json`` with the state of the whole run."""
        seconds = round(time.monotonic() - self._started, 3)
        content = {**self._header, "status": outcome, "seconds": seconds, "commands": self._records}
        atomic_write_json(self.log.parent / RESULTS, content)
