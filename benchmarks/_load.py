"""A load generator for the serving benchmark, cheap enough to share a processor with the service that it measures.

``python benchmarks/_load.py PLAN REPORT`` (both JSON, see :class:`Plan`). Requests are built once, answers are looked
at but not parsed, connections are kept; standard library only. A process of its own, so that its processor time is
known.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

TICK = 0.005  # seconds between looks at what an open loop has to send
PATIENCE = 60.0  # seconds for the last answers


@dataclass(frozen=True)
class Plan:
    """What to send.

    Attributes:
        pictures: image files, sent in turn.
        seconds: for how long new requests are started.
        connections: clients that each send a request when they have the answer to the last one; with a ``rate``, the
            most connections that are opened.
        rate: requests per second, started whether answers come or not; 0: as the clients can.
    """

    port: int
    path: str
    pictures: tuple[str, ...]
    seconds: float
    connections: int
    rate: float = 0.0


class Client(asyncio.Protocol):
    """One connection. Calls ``answered(client, status, body)`` for each whole answer, ``lost(client)`` at its end."""

    def __init__(self, answered: Callable[[Client, int, bytes], None], lost: Callable[[Client], None]) -> None:
        self._answered, self._lost = answered, lost
        self._data = bytearray()
        self._end = 0  # of the answer that is coming in, 0: its head is not complete
        self._head = 0
        self.picture, self.sent = -1, 0.0  # what it waits for; -1: nothing
        self.ending = False  # the server closes the connection after this answer

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def send(self, picture: int, request: bytes) -> None:
        """One request; the last one must have been answered."""
        self.picture, self.sent = picture, time.monotonic()
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._data += data
        if not self._end:
            self._head = self._data.find(b"\r\n\r\n") + 4
            if self._head < 4:
                return
            head = bytes(self._data[: self._head]).lower()
            start = head.index(b"content-length:") + 15
            self._end = self._head + int(head[start : head.index(b"\r\n", start)])
            self.ending = b"\r\nconnection: close\r\n" in head
        if len(self._data) >= self._end:
            status, body = int(self._data[9:12]), bytes(self._data[self._head : self._end])
            self._data, self._end = bytearray(), 0
            self._answered(self, status, body)

    def connection_lost(self, error: Exception | None) -> None:
        self._lost(self)


class Load:
    """One plan, carried out."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.requests = [request_of(plan, Path(name).read_bytes()) for name in plan.pictures]
        self.done: list[tuple[float, float, int]] = []  # start, end (time.monotonic), code_of
        self.answers: dict[int, str] = {}  # picture → the last answer with a result
        self.broken = self.unsent = 0
        self.idle: list[Client] = []
        self.open = self.waiting = self.number = 0

    async def run(self) -> dict[str, object]:
        """Everything that happened, plain values for JSON."""
        cpu, begin = time.process_time(), time.monotonic()
        self.until = begin + self.plan.seconds
        await (self._at_rate(begin) if self.plan.rate else self._as_answered())
        patience = time.monotonic() + PATIENCE
        while self.waiting and time.monotonic() < patience:
            await asyncio.sleep(TICK)
        return {
            "begin": begin,
            "until": self.until,
            "cores": (time.process_time() - cpu) / (time.monotonic() - begin),
            "requests": self.done,
            "answers": self.answers,
            "broken": self.broken,
            "unanswered": self.waiting,
            "unsent": self.unsent,
        }

    async def _as_answered(self) -> None:
        for _ in range(self.plan.connections):
            self._send(await self._connect())
        while time.monotonic() < self.until:
            await asyncio.sleep(0.05)

    async def _at_rate(self, begin: float) -> None:
        while (now := time.monotonic()) < self.until:
            for _ in range(int((now - begin) * self.plan.rate) - self.number - self.unsent):
                if not self.idle and self.open < self.plan.connections:
                    self.idle.append(await self._connect())
                if self.idle:
                    self._send(self.idle.pop())
                else:
                    self.unsent += 1
            await asyncio.sleep(TICK)

    async def _connect(self) -> Client:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(
            lambda: Client(self._answered, self._lost), "127.0.0.1", self.plan.port
        )
        self.open += 1
        return client

    def _send(self, client: Client) -> None:
        picture = self.number % len(self.requests)
        self.number += 1
        self.waiting += 1
        client.send(picture, self.requests[picture])

    def _answered(self, client: Client, status: int, body: bytes) -> None:
        picture, client.picture = client.picture, -1
        now, code = time.monotonic(), code_of(status, body)
        self.waiting -= 1
        self.done.append((client.sent, now, code))
        if code == 200:
            self.answers[picture] = body.decode()
        if client.ending:
            client.transport.close()
        elif self.plan.rate:
            self.idle.append(client)
        elif now < self.until:
            self._send(client)

    def _lost(self, client: Client) -> None:
        self.open -= 1
        if client.picture >= 0:
            self.waiting -= 1
            self.broken += 1
        if client in self.idle:
            self.idle.remove(client)


def request_of(plan: Plan, picture: bytes) -> bytes:
    """The whole HTTP request for an image file's embedding, in Paddle Serving's form."""
    message = {"key": ["image"], "value": [base64.b64encode(picture).decode()], "logid": 0}
    body = json.dumps(message).encode()
    head = f"POST {plan.path} HTTP/1.1\r\nHost: 127.0.0.1:{plan.port}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def code_of(status: int, body: bytes) -> int:
    """200 for a result; the HTTP status of anything else, or the ``err_no`` of a failure that came with status 200."""
    found = re.match(rb'\{"err_no":(\d+),', body)
    if status != 200:
        return status
    if found is None or not body.endswith(b"}"):
        return -1  # no answer of this protocol
    return int(found[1]) or 200


def main() -> None:
    """Carry out one plan."""
    asked, report = map(Path, sys.argv[1:])
    load = Load(Plan(**json.loads(asked.read_text())))
    report.write_text(json.dumps(asyncio.run(load.run())))


if __name__ == "__main__":
    main()
