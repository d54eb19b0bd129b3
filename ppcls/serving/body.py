"""Reading a request: bounded in size, in time and in memory, and noticing when the caller hangs up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import anyio
from starlette.requests import Request

from ppcls.serving.limits import Share
from ppcls.serving.problems import ClientGone, SlowClient, TooLarge

_MOST_VALUES = 200_000
"""JSON values in a body; each costs a hundred times its byte or two as an object. Base64 has none of these signs."""


async def read_body(request: Request, limit: int, seconds: float, memory: Share) -> bytes:
    """The whole body; ``memory`` is charged for it as it comes in, twice (the bytes, and the text made of them).

    Raises:
        TooLarge: more than ``limit`` bytes, announced or sent, or far more values than any request has;
        SlowClient: not complete within ``seconds``; ClientGone: hung up before the end; Busy: no memory left for it.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit() and int(announced) > limit:
        raise _too_large(limit)
    parts: list[bytes] = []
    size, more = 0, True
    with anyio.move_on_after(seconds):
        while more:
            message = await request.receive()
            if message["type"] == "http.disconnect":
                raise ClientGone("the caller hung up")
            part, more = message.get("body", b""), message.get("more_body", False)
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            memory.take(2 * len(part))
            parts.append(part)
    if more:
        raise SlowClient(f"the request's body did not arrive within {seconds:g} s")
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    if size > _MOST_VALUES and sum(map(body.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise TooLarge(f"the body holds more than the {_MOST_VALUES} values that are accepted")
    return body


@contextlib.asynccontextmanager
async def attended(request: Request) -> AsyncIterator[None]:
    """Cancels what runs within when the caller hangs up. The body must have been read.

    Raises:
        ClientGone: it did.
    """
    with anyio.CancelScope() as scope:
        watcher = asyncio.ensure_future(_cancel_at_hang_up(request, scope))
        try:
            yield
        finally:
            watcher.cancel()
    if scope.cancelled_caught:
        raise ClientGone("the caller hung up")


async def _cancel_at_hang_up(request: Request, scope: anyio.CancelScope) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than the {limit / 1024**2:g} MiB that are accepted")
