"""One JSON object per line on standard error, written by a thread of its own so that no request waits for a pipe."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import sys
import threading
import time
from typing import TextIO

LOGGER = logging.getLogger("ppcls.serving")
_WAITING_LINES, _LINES_AT_ONCE = 10_000, 500
_LAST_WORDS_SECONDS = 3.0
_OWN_FIELDS = "fields"


def event(name: str, /, *, level: int = logging.INFO, **fields: object) -> None:
    """Log ``fields`` under the event's name. Never pass image data or tokens."""
    if LOGGER.isEnabledFor(level):
        LOGGER.log(level, name, extra={_OWN_FIELDS: fields})


class JsonFormatter(logging.Formatter):
    """time (UTC), level, event, the event's fields; the stack trace of an error."""

    def format(self, record: logging.LogRecord) -> str:
        """One line of JSON."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "pid": record.process,
            **getattr(record, _OWN_FIELDS, {}),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class _ToWriter(logging.Handler):
    """Hands finished lines to the writer. When nobody reads standard error, lines are lost, not requests."""

    def __init__(self, lines: queue.SimpleQueue[str | None]) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter())
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Never waits, and may be called in a signal handler that interrupts it: only a SimpleQueue allows that."""
        if self._lines.qsize() < _WAITING_LINES:
            self._lines.put(self.format(record))


class LogWriter(threading.Thread):
    """Writes lines as they come, several at a time when they come fast. :meth:`stop` writes the rest and returns.

    Where nobody reads the stream, the rest is given up after a moment: a shutdown does not wait for a reader.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(name="log", daemon=True)
        self._stream = stream
        self.lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def run(self) -> None:
        """Until :meth:`stop`."""
        going_on = True
        while going_on:
            together = [self.lines.get()]
            with contextlib.suppress(queue.Empty):
                while len(together) < _LINES_AT_ONCE:
                    together.append(self.lines.get_nowait())
            going_on = None not in together
            with contextlib.suppress(OSError, ValueError):  # closed, or a full disk: serve on without a log
                self._stream.write("".join(f"{line}\n" for line in together if line is not None))
                self._stream.flush()

    def stop(self) -> None:
        """After the last message."""
        self.lines.put(None)
        self.join(_LAST_WORDS_SECONDS)


def log_json(stream: TextIO | None = None) -> LogWriter:
    """Send the service's and the web server's messages to standard error; stop the returned writer at the end."""
    # A stream of its own: at its end Python waits for the lock of sys.stderr, which a writer that is stuck would hold.
    writer = LogWriter(stream or os.fdopen(os.dup(sys.stderr.fileno()), "w", encoding="utf-8"))
    handler = _ToWriter(writer.lines)
    LOGGER.setLevel(logging.INFO)
    web_server = logging.getLogger("uvicorn.error")
    web_server.setLevel(logging.WARNING)
    for logger in (LOGGER, web_server):
        logger.handlers, logger.propagate = [handler], False
    writer.start()
    return writer
