"""One logger for the library; commands add a console and a run-folder file to it."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

_NAME = "ppcls"


def get_logger() -> logging.Logger:
    """The project's logger. A library caller configures it as any other; commands call :func:`log_to_console`."""
    return logging.getLogger(_NAME)


def bold(text: str, stream=None) -> str:
    """``text`` in bold on a terminal, unchanged elsewhere."""
    stream = stream or sys.stdout
    return f"\033[1m{text}\033[0m" if stream.isatty() else text


class _ConsoleHandler(logging.StreamHandler):
    """Prints through tqdm when a progress bar is on screen, so that lines don't cut into it."""

    def emit(self, record: logging.LogRecord) -> None:
        from tqdm import tqdm

        with tqdm.external_write_mode(file=self.stream):
            super().emit(record)


def log_to_console(level: int = logging.INFO) -> None:
    """Send messages to standard output as they are (no prefix): what the commands print."""
    logger = get_logger()
    logger.setLevel(level)
    if not any(isinstance(handler, _ConsoleHandler) for handler in logger.handlers):
        handler = _ConsoleHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.propagate = False  # libraries that configure the root logger would print every line again


@contextlib.contextmanager
def only_warnings() -> Iterator[None]:
    """Without the messages of a step whose own report the caller replaces."""
    logger = get_logger()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def log_to_file(path: str | Path) -> logging.Handler:
    """Append messages to ``path`` as well; give the handler to :func:`stop_logging_to` at the end."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, mode="a", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = get_logger()
    logger.setLevel(min(logger.level or logging.INFO, logging.INFO))
    logger.addHandler(handler)
    return handler


def stop_logging_to(handler: logging.Handler) -> None:
    """Detach and close a handler of :func:`log_to_file`."""
    get_logger().removeHandler(handler)
    handler.close()
