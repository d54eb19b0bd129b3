"""From results and problems to HTTP responses, in the form of the protocol that was spoken."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from ppcls.serving import protocol
from ppcls.serving.go_json import valid_text
from ppcls.serving.problems import Problem

_JSON, _TEXT = "application/json", "text/plain; charset=utf-8"
_TWO_SEGMENTS = re.compile(r"/[^/]*/[^/]+")


def speaks_paddle(path: str) -> bool:
    """Whether the path is ``/<service>/<method>``; every other route has one segment."""
    return _TWO_SEGMENTS.fullmatch(path) is not None


def paddle_answer(request: Request, answer: Mapping[str, Any], status: int = 200, **headers: str) -> Response:
    """An answer of :mod:`ppcls.serving.protocol`."""
    request.state.error = answer.get("err_no", status)
    return Response(protocol.encode(answer), status, headers or None, _JSON)


def paddle_result(request: Request, body: bytes) -> Response:
    """An encoded answer without an error."""
    request.state.error = 0
    return Response(body, 200, None, _JSON)


def success(request: Request, result: bytes, message: str = "Success") -> Response:
    """``result`` is JSON already: embeddings are too many numbers for a general encoder."""
    head = json.dumps({"logId": request.state.request_id, "errorCode": 0, "errorMsg": message}, separators=(",", ":"))
    request.state.error = 0
    return Response(head[:-1].encode() + b',"result":' + result + b"}", 200, None, _JSON)


def failure(request: Request, status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """A failure in PaddleX's form."""
    request.state.error = status
    answer = {"logId": request.state.request_id, "errorCode": status, "errorMsg": valid_text(message)}
    return Response(json.dumps(answer, ensure_ascii=False, separators=(",", ":")), status, headers, _JSON)


def problem_answer(request: Request, problem: Problem) -> Response:
    """The answer to a request that gets no result."""
    request.state.reason = problem.reason
    if speaks_paddle(request.url.path):
        answer = protocol.error(problem.err_no, str(problem))
        return paddle_answer(request, answer, problem.paddle_status, **problem.headers)
    return failure(request, problem.status, str(problem), problem.headers or None)


def http_error_answer(request: Request, error: HTTPException) -> Response:
    """No such route, or not with this method."""
    if speaks_paddle(request.url.path) and error.status_code == 405:
        request.state.error = 405
        headers = {**(error.headers or {}), "x-content-type-options": "nosniff"}
        return Response(protocol.METHOD_NOT_ALLOWED, 405, headers, _TEXT)
    return failure(request, error.status_code, error.detail, error.headers)


def crash_answer(request: Request, _error: Exception) -> Response:
    """A defect of ours; the log has the stack trace, the caller has the request's id."""
    message, request_id = "Internal server error", {"x-request-id": request.state.request_id}
    if speaks_paddle(request.url.path):
        return paddle_answer(request, protocol.error(protocol.ErrNo.UNKNOWN, message), 200, **request_id)
    return failure(request, 500, message, request_id)
