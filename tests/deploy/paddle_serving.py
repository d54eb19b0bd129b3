"""Real Paddle Serving, run with this project's service: needs PADDLE_SERVING_PYTHON (setup_serving.sh prints it)."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy" / "paddleserving"
PYTHON = os.environ.get("PADDLE_SERVING_PYTHON", "")
MISSING = "PADDLE_SERVING_PYTHON is not set; deploy/paddleserving/setup_serving.sh builds such a Python and prints it"
_START, _STOP = 120, 20


def convert(exported: Path, folder: Path) -> Path:
    """``serving_server`` of an exported model, made by the real command."""
    server = folder / "serving_server"
    command = [sys.executable, str(DEPLOY / "convert.py"), "--dirname", str(exported), "--serving_server", str(server)]
    command += ["--serving_client", str(folder / "serving_client")]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return server


@contextlib.contextmanager
def running(
    server: Path, work: Path, command: Sequence[str | Path] = (DEPLOY / "web_service.py",), changes: Sequence[str] = ()
) -> Iterator[int]:
    """Its HTTP port while it runs in a session of its own: where it cannot start it ends its whole process group."""
    http_port, rpc_port = _free_ports(2)
    opts = [f"http_port:{http_port}", f"rpc_port:{rpc_port}", f"op.reid.local_service_conf.model_config:{server}"]
    log = work / "web_service.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [PYTHON, *map(str, command), "--opt", *opts, *changes],
            cwd=work,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait(process, http_port, log)
            yield http_port
        finally:
            _end(process)


def ask(port: int, method: str, path: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers (names in small letters) and body of one answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, {key.lower(): value for key, value in answer.getheaders()}, answer.read()


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [each.getsockname()[1] for each in sockets]


def _wait(process: subprocess.Popen, port: int, log: Path) -> None:
    end = time.monotonic() + _START
    while time.monotonic() < end:
        if process.poll() is not None:
            raise AssertionError(f"it ended with status {process.returncode}:\n{log.read_text()[-3000:]}")
        with contextlib.suppress(OSError, http.client.HTTPException):
            if ask(port, "POST", "/reid/prediction", b"{}")[0] == 200:
                return
        time.sleep(0.2)
    raise AssertionError(f"no answer within {_START} s:\n{log.read_text()[-3000:]}")


def _end(process: subprocess.Popen) -> None:
    """The whole session: the gateway is a child of the service."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_STOP)
