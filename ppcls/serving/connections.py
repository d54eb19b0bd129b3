"""Connections that take too long: uvicorn's protocol with a limit on their number and on a client's patience."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_SLOWEST_READER = 10_000
"""Bytes a second; a client that reads its answer more slowly is cut off."""


class Connection(H11Protocol):
    """One connection. Set the class attributes through :func:`connection_class`."""

    limit = 1
    patience = 1.0
    refused: Callable[[], None]

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head_due: float | None = None
        self._read_due: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Answers 503 and hangs up if there are too many already."""
        super().connection_made(transport)
        self._head_due = self.loop.time() + self.patience
        if len(self.connections) > self.limit:
            type(self).refused()
            transport.write(_too_many())
            transport.close()

    def data_received(self, data: bytes) -> None:
        """Notes when a request's head has begun: it must be complete in time."""
        if self._head_due is None and self._idle():
            self._head_due = self.loop.time() + self.patience
        super().data_received(data)
        if not self._idle():
            self._head_due = None

    def cut_off_if_overdue(self, now: float) -> None:
        """Hang up on a client that does not finish its head, or does not read its answer."""
        waiting = self.unread
        if not waiting:
            self._read_due = None
        elif self._read_due is None:
            self._read_due = now + self.patience + waiting / _SLOWEST_READER
        head_is_late = self._idle() and self._head_due is not None and now > self._head_due
        if head_is_late or (self._read_due is not None and now > self._read_due):
            self.transport.abort()

    @property
    def unread(self) -> int:
        """Bytes of answers that wait for the client to read on."""
        return self.transport.get_write_buffer_size()

    def _idle(self) -> bool:
        """Between requests. (The body itself is timed by :func:`ppcls.serving.body.read_body`.)"""
        return self.cycle is None or self.cycle.response_complete


def cut_off_hoarders(connections: Iterable[Connection], limit: int) -> None:
    """Hang up on the clients that leave most unread until all of it together is at most ``limit`` bytes."""
    hoards = sorted(((connection.unread, connection) for connection in connections), key=lambda hoard: hoard[0])
    together = sum(unread for unread, _ in hoards)
    while together > limit:
        unread, connection = hoards.pop()
        connection.transport.abort()
        together -= unread


def connection_class(limit: int, patience: float, refused: Callable[[], None]) -> type[Connection]:
    """The protocol for uvicorn: at most ``limit`` connections, ``patience`` seconds for a head, ``refused()`` calls."""
    return type("LimitedConnection", (Connection,), {"limit": limit, "patience": patience, "refused": refused})


def _too_many() -> bytes:
    answer = {"logId": "", "errorCode": 503, "errorMsg": "too many connections; try again in a moment"}
    body = json.dumps(answer, separators=(",", ":")).encode()
    head = (
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n"
        f"connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
