"""The real service as a child process of the serving benchmark: start, watch, stop."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ppcls.utils.errors import UserError

APP = Path(__file__).resolve().parent.parent / "deploy" / "serving" / "app.py"
SERVICE = "reid"
PATH = f"/{SERVICE}/prediction"
_START_SECONDS, _STOP_SECONDS = 120, 90
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # whatever the environment says


@dataclass(frozen=True)
class Service:
    """A service that runs; ``pid`` of its one process, ``port`` on 127.0.0.1."""

    pid: int
    port: int

    def get(self, path: str) -> str:
        """The body of an answer.

        Raises:
            OSError: no connection, or no answer.
        """
        with _DIRECT.open(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return answer.read().decode()

    def memory(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def processor_seconds(self) -> float:
        """Spent since it was started, by all threads."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def counter(self, name: str) -> float:
        """A figure of /metrics, summed over its labels; 0 if it has not been counted yet."""
        values = re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", self.get("/metrics"), re.MULTILINE)
        return sum(map(float, values))


@contextlib.contextmanager
def running(model: Path, environment: Mapping[str, str], flags: Sequence[str]) -> Iterator[Service]:
    """The service on the exported model in ``model``, from when it is healthy.

    Raises:
        UserError: it does not start, or does not end in order when it is told to; with the last line of its log.
    """
    argv = [sys.executable, str(APP), "--model-dir", str(model), "--port", "0", "--name", SERVICE, *flags]
    with tempfile.TemporaryFile("w+") as log:
        child = subprocess.Popen(argv, env=dict(environment), stdout=subprocess.PIPE, stderr=log, text=True)
        try:
            service = Service(child.pid, _port_of(child, log))
            _wait_until_healthy(service)
            yield service
            child.terminate()
            if child.wait(_STOP_SECONDS):
                raise UserError(f"the service ended with exit status {child.returncode}: {_last_line(log)}")
        finally:
            child.kill()
            child.wait()
            child.stdout.close()


def _port_of(child: subprocess.Popen, log) -> int:
    for line in child.stdout:
        if found := re.search(r"http://127\.0\.0\.1:(\d+)", line):
            return int(found[1])
    child.wait()
    raise UserError(f"the service did not start: {_last_line(log)}")


def _wait_until_healthy(service: Service) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        try:
            service.get("/health")
            return
        except (urllib.error.URLError, OSError) as error:
            if time.monotonic() > until:
                raise UserError(f"the service is not healthy after {_START_SECONDS} s: {error}") from error
            time.sleep(0.1)


def _last_line(log) -> str:
    log.seek(0)
    return (log.read().strip().splitlines() or ["no message"])[-1]
