"""Log lines of the service."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# A handler that logs interrupts a thread that logs, thousands of times.
_INTERRUPTED = """
import signal

from ppcls.serving.logs import event, log_json

writer = log_json()
signal.signal(signal.SIGALRM, lambda *_: event("from the handler"))
signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
for number in range(20_000):
    event("line", number=number)
signal.setitimer(signal.ITIMER_REAL, 0)
event("last")
writer.stop()
"""


_NOBODY_READS = """
from ppcls.serving.logs import event, log_json

writer = log_json()
for number in range(2000):
    event("line", number=number, text="x" * 100)
writer.stop()
"""


def test_the_end_does_not_wait_for_a_reader():
    """Standard error is a pipe, and it is full."""
    folder = Path(__file__).resolve().parents[2]
    process = subprocess.Popen([sys.executable, "-c", _NOBODY_READS], cwd=folder, stderr=subprocess.PIPE)
    try:
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def test_a_signal_handler_may_log():
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED],
        cwd=Path(__file__).resolve().parents[2],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stderr.count("from the handler") > 10
