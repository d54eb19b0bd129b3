"""Everything that can go wrong with a request, each with its status in both protocols."""

from __future__ import annotations

from ppcls.serving.protocol import ErrNo


class Problem(Exception):
    """A request that gets no result.

    Attributes:
        status: of HTTP, and ``errorCode`` of the PaddleX-style routes.
        err_no: of the Paddle Serving route.
        paddle_status: of HTTP there. Paddle Serving answers 200 to whatever reached its operators.
        reason: label of the metric ``reid_rejected_total``; "" if the request was not turned away.
        headers: that the answer carries.
    """

    status, err_no, paddle_status, reason = 500, ErrNo.UNKNOWN, 200, ""
    headers: dict[str, str] = {}


class BadRequest(Problem):
    """What was sent cannot be used: no image, not base64, an unknown index."""

    status, err_no = 422, ErrNo.INPUT


class NotFound(Problem):
    """An index that is not there."""

    status, err_no = 404, ErrNo.INPUT


class Conflict(Problem):
    """An index that is there already, or belongs to another model."""

    status, err_no = 409, ErrNo.INPUT


class Unauthorised(Problem):
    """No bearer token, or a wrong one."""

    status, err_no, paddle_status, reason = 401, ErrNo.UNAUTHORISED, 401, "token"
    headers = {"www-authenticate": "Bearer"}


class TooLarge(Problem):
    """A body above the limit, or more images than the queue could ever hold."""

    status, err_no, paddle_status, reason = 413, ErrNo.INPUT, 413, "size"


class NotJson(Problem):
    """A body of another content type on a route that changes things."""

    status, err_no = 415, ErrNo.INPUT


class SlowClient(Problem):
    """The body did not arrive in time."""

    status, err_no, paddle_status, reason = 408, ErrNo.TIMEOUT, 408, "slow"
    headers = {"connection": "close"}


class Busy(Problem):
    """No room for the request now; it may be sent again."""

    status, err_no, paddle_status, reason = 503, ErrNo.BUSY, 503, "busy"
    headers = {"retry-after": "1"}


class TimedOut(Problem):
    """No answer within ``--request-timeout``."""

    status, err_no, reason = 504, ErrNo.TIMEOUT, "timeout"


class ClientGone(Problem):
    """The caller hung up; nobody reads the answer."""

    status, err_no, paddle_status, reason = 499, ErrNo.UNKNOWN, 499, "gone"


class InferenceFailed(Problem):
    """The model raised an error or gave numbers that are not finite."""

    status, err_no = 500, ErrNo.INFERENCE


class NoSpace(Problem):
    """An index, or the folder of the indexes, is full."""

    status, err_no = 507, ErrNo.INPUT
