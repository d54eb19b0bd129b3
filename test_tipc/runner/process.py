"""One child process in a group of its own: logged, watched, and ended with all it started."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ppcls.utils.errors import UserError
from test_tipc.runner.commands import Command

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 10.0


class Child:
    """A running command. Its process group is its own, so that no signal of ours can reach another program."""

    def __init__(self, command: Command, environment: Mapping[str, str]) -> None:
        """Start it; output goes to ``command.log``.

        Raises:
            UserError: there is no such program.
        """
        env = {**environment, "PYTHONUNBUFFERED": "1", **command.env}
        program = shutil.which(command.argv[0], path=env.get("PATH"))
        if program is None:
            raise UserError(
                f"there is no program '{command.argv[0]}' on PATH, which the command needs: {command.shown}"
            )
        command.log.parent.mkdir(parents=True, exist_ok=True)
        self.command = command
        self.started = time.monotonic()
        with command.log.open("wb") as log:
            self._process = subprocess.Popen(
                [program, *command.argv[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=command.cwd,
                env=env,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Of the child, and of its group."""
        return self._process.pid

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self.started

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def wait(self, tick: Callable[[float], None], limit: float | None = None) -> int | None:
        """Its exit status when it has ended; None when ``limit`` seconds are over. Calls ``tick`` meanwhile."""
        while (status := self.poll()) is None:
            if limit is not None and self.seconds > limit:
                return None
            tick(self.seconds)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_POLL_SECONDS)
        return status

    def end(self, grace: float = _GRACE_SECONDS) -> int:
        """SIGTERM to the whole group, SIGKILL after ``grace`` seconds; returns the child's exit status.

        Children that the program left behind in its group are ended even if it is gone itself.
        """
        try:
            self._signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace)
        finally:  # also when the user is impatient and interrupts a second time
            self._signal(signal.SIGKILL)
        return self._process.wait()

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)


@contextlib.contextmanager
def running(command: Command, environment: Mapping[str, str]) -> Iterator[Child]:
    """A child that does not outlive the block, however the block is left."""
    child = Child(command, environment)
    try:
        yield child
    finally:
        child.end()


def last_lines(log: Path, count: int = 15) -> list[str]:
    """The end of a log, for a message about a failure."""
    if not log.is_file():
        return []
    with log.open("rb") as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(0, stream.tell() - 64 * 1024))
        return stream.read().decode("utf-8", errors="replace").splitlines()[-count:]
