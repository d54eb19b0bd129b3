"""Running commands one after the other: real exit statuses, a stop at the first failure, a record of each."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ppcls.utils.command import EXIT_INTERRUPTED, EXIT_OK, EXIT_PROBLEMS
from ppcls.utils.errors import UserError
from ppcls.utils.logger import get_logger
from test_tipc.runner.commands import Command
from test_tipc.runner.figures import figures_of
from test_tipc.runner.process import last_lines, running
from test_tipc.runner.status import FAILED, INTERRUPTED, NOT_RUN, SUCCESSFUL, Report


class StageFailed(Exception):
    """A command failed; the status line and the record are written."""


class Step(Protocol):
    """One entry of a plan: a single command, a server with its client, a check."""

    @property
    def title(self) -> str:
        """What the terminal shows when it begins."""

    @property
    def commands(self) -> Sequence[Command]:
        """What it runs."""

    def run(self, chain: Chain) -> None:
        """Run it; StageFailed when it fails."""


class Single:
    """The step of one command."""

    def __init__(self, command: Command, limit: float | None = None) -> None:
        self.command = command
        self.limit = limit

    @property
    def title(self) -> str:
        return f"{self.command.stage}: {self.command.shown}"

    @property
    def commands(self) -> Sequence[Command]:
        return (self.command,)

    def run(self, chain: Chain) -> None:
        with running(self.command, chain.environment) as child:
            try:
                status = child.wait(chain.tick, self.limit)
            except KeyboardInterrupt:
                chain.interrupted(self.command, child.seconds)
                raise
        note = f"stopped after {self.limit:.0f} s" if status is None else ""
        chain.finish(self.command, 0 if status is None else status, child.seconds, note)


class Check:
    """The step of a test that the runner makes itself, once the steps before it have run."""

    commands = ()

    def __init__(self, title: str, test: Callable[[], None]) -> None:
        self.title = title
        self._test = test

    def run(self, chain: Chain) -> None:
        self._test()


class Chain:
    """Runs a plan and reports it."""

    def __init__(self, report: Report, environment: Mapping[str, str]) -> None:
        self.report = report
        self.environment = environment
        self._place = ""
        self._shown = False

    def run(self, steps: Sequence[Step]) -> int:
        """All steps, until one fails. Returns the exit status for the whole: 0, 1, or 130 when it was interrupted.

        Raises:
            UserError: a check found something that the user has to mend first.
        """
        started = time.monotonic()
        for number, step in enumerate(steps, 1):
            self._place = f"[{number}/{len(steps)}]"
            get_logger().info("%s %s", self._place, step.title)
            try:
                step.run(self)
            except UserError:
                self._stop(steps[number:], FAILED, EXIT_PROBLEMS)
                raise
            except StageFailed:
                return self._stop(steps[number:], FAILED, EXIT_PROBLEMS)
            except KeyboardInterrupt:
                get_logger().info("interrupted; the commands that were started have been ended")
                return self._stop(steps[number:], INTERRUPTED, EXIT_INTERRUPTED)
            finally:
                self._clear()
            get_logger().info("%s done, %.0f s since the start", self._place, time.monotonic() - started)
        self.report.write(SUCCESSFUL)
        return EXIT_OK

    def finish(self, command: Command, exit_status: int, seconds: float, note: str = "") -> None:
        """Status line and record of a command that has ended.

        Raises:
            StageFailed: it failed, or it did not leave what it had to.
        """
        flaw, metrics = (f"exit status {exit_status}", {}) if exit_status else _look(command)
        self._clear()
        self.report.status(command, not flaw)
        remark = "; ".join(text for text in (flaw, note) if text)
        self.report.record(command, FAILED if flaw else SUCCESSFUL, exit_status, seconds, remark, metrics)
        if flaw:
            for line in last_lines(command.log):
                get_logger().info("    %s", line)
            get_logger().info("%s, after %.0f s; log: %s", remark, seconds, command.log)
            raise StageFailed

    def interrupted(self, command: Command, seconds: float) -> None:
        """Record of a command that was running when the user stopped everything."""
        self.report.record(command, INTERRUPTED, None, seconds)

    def tick(self, seconds: float) -> None:
        """Show on a terminal how long the command has been running."""
        if sys.stderr.isatty():
            self._shown = True
            print(f"\r{self._place}: {seconds:.0f} s ", end="", file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self._shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
            self._shown = False

    def _stop(self, rest: Sequence[Step], outcome: str, status: int) -> int:
        for step in rest:
            for command in step.commands:
                self.report.record(command, NOT_RUN)
        self.report.write(outcome)
        return status


def _look(command: Command) -> tuple[str, dict[str, Any]]:
    """(what is wrong with what a command left although it ended with 0, else ""; the figures in it)."""
    missing = [path for path in command.makes if not path.exists()]
    if missing:
        return f"exit status 0, but {missing[0]} was not written", {}
    try:
        return "", figures_of(command.figures)
    except UserError as error:
        return str(error), {}
