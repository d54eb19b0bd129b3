"""Around every request: its id, the token, one log line, the figures."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import logging
import re
import time
import uuid

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ppcls.serving.answers import problem_answer
from ppcls.serving.logs import event
from ppcls.serving.metrics import Metrics
from ppcls.serving.problems import Unauthorised

OPEN_PATHS = frozenset({"/", "/health", "/docs", "/openapi.json"})
"""Served without a token: they hold nothing but the program's own text and the state of the service."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_SHOWN_PATH = 200
_PROCESS, _NUMBERS = uuid.uuid4().hex[:16], itertools.count(1)


class Guard:
    """ASGI middleware.

    Args:
        app: what it guards.
        metrics: figures of requests.
        token: the bearer token that is asked for; None: everybody may come in.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, token: str | None) -> None:
        self._app, self._metrics = app, metrics
        self._token = None if token is None else _fingerprint(token.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; other connections go through unseen."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        request = Request(scope, receive)
        state = request.state
        state.request_id, state.images, state.error, state.reason = _request_id(scope), 0, 500, ""
        status = 500

        async def tagged(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", state.request_id.encode())]
            await send(message)

        try:
            if scope["path"] in OPEN_PATHS or self._may_enter(scope):
                await self._app(scope, receive, tagged)
            else:
                problem = Unauthorised("a bearer token is needed: Authorization: Bearer <token>")
                await problem_answer(request, problem)(scope, receive, tagged)
        finally:
            self._record(request, status, time.perf_counter() - start)

    def _may_enter(self, scope: Scope) -> bool:
        if self._token is None:
            return True
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        kind, _, token = given.partition(b" ")
        # Fingerprints have one length, and comparing them takes the same time wherever they differ.
        return hmac.compare_digest(_fingerprint(token.strip()), self._token) and kind.lower() == b"bearer"

    def _record(self, request: Request, status: int, seconds: float) -> None:
        state, route = request.state, getattr(request.scope.get("route"), "path", "other")
        self._metrics.requests.labels(route, status, int(state.error)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        if state.reason:
            self._metrics.rejected.labels(state.reason).inc()
        event(
            "request",
            level=logging.ERROR if status >= 500 and not state.reason else logging.INFO,
            request_id=state.request_id,
            client=(request.scope.get("client") or ("",))[0],
            method=request.method,
            path=request.scope["path"][:_SHOWN_PATH],
            route=route,
            status=status,
            error=int(state.error),
            images=state.images,
            ms=round(seconds * 1000, 1),
        )


def _fingerprint(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()


def _request_id(scope: Scope) -> str:
    """The caller's X-Request-Id if it is a plain word, else a new one."""
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else f"{_PROCESS}-{next(_NUMBERS):x}"
