"""The wire format of Paddle Serving's pipeline web service (0.9.0), as pure functions; no web framework, no model.

Request, ``POST /<service>/<any method>``::

    {"key": ["image"], "value": ["<base64 of an image file>"], "logid": 10000}

Several pairs are a batch, one image each, in the order given; the keys may be anything (``image``, ``image_0``, …), as
in the services that PaddleClas ships, and may repeat: Paddle Serving itself keeps only the last image of a key. Answer,
with HTTP status 200 also where ``err_no`` is not 0::

    {"err_no": 0, "err_msg": "", "key": ["features"], "value": ["[[0.1, …], …]"], "tensors": []}

The value is the text of a Python (and JSON) list [N, D], one row for each image. A body that cannot be read as such a
message never reaches the service: the gateway answers HTTP 400 with an object of its own (:func:`gateway_error`).
Shared by ``ppcls.serving`` and ``deploy/paddleserving``; what the real gateway sends is recorded beside the tests.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

from ppcls.serving import go_json
from ppcls.serving.go_json import GatewayError, Number, cannot_unmarshal

FEATURES = "features"
"""Key of the embeddings in an answer."""

WRONG_SERVICE = "Failed to inference: Service name error."
NOT_FOUND, METHOD_NOT_ALLOWED = b"Not Found\n", b"Method Not Allowed\n"
"""Bodies (text/plain) of the gateway's 404 and 405."""

_TENSOR_TYPES, _STRING_TENSOR = range(14), 12
_INT32, _INT64 = 31, 63


class ErrNo(IntEnum):
    """Error numbers of Paddle Serving 0.9.0; 50 to 99 are the product's own."""

    OK = 0
    BUSY = 51  # no room for the request now: try again later
    UNAUTHORISED = 52  # no token, or a wrong one
    NO_SERVICE = 3002
    INPUT = 5000
    TIMEOUT = 6000
    RPC_PACKAGE = 8000
    INFERENCE = 9000
    UNKNOWN = 10000


class ServingError(Exception):
    """An answer whose ``err_no`` is not 0, or a request that deserves one."""

    def __init__(self, err_no: int, err_msg: str) -> None:
        super().__init__(f"err_no {int(err_no)}: {err_msg}")
        self.err_no, self.err_msg = int(err_no), err_msg


@dataclass(frozen=True)
class PredictionRequest:
    """``images``: (key, base64 text) in the order of the request; ``logid``: the caller's number."""

    images: list[tuple[str, str]]
    logid: int = 0


def build_request(images: Sequence[bytes], logid: int = 0) -> dict[str, Any]:
    """The message that asks for the embeddings of image files (their bytes, JPEG, PNG, …)."""
    keys = ["image"] if len(images) == 1 else [f"image_{number}" for number in range(len(images))]
    return {"key": keys, "value": [base64.b64encode(image).decode("ascii") for image in images], "logid": logid}


def decode_request(body: bytes) -> dict[str, Any]:
    """The message in an HTTP body, fields checked and completed as the gateway does it.

    Raises:
        GatewayError: not a message; answer HTTP 400 with :func:`gateway_error`.
    """
    message = go_json.decode(body)
    if message is None:
        message = {}
    if not isinstance(message, dict):
        raise cannot_unmarshal(message, "map[string]json.RawMessage")
    return {
        "key": _texts(message.get("key")),
        "value": _texts(message.get("value")),
        "tensors": [_tensor(item) for item in _items(message.get("tensors"))],
        **{name: _text(message.get(name)) for name in ("name", "method")},
        "logid": _integer(message.get("logid"), _INT64),
        "clientip": _text(message.get("clientip")),
    }


def parse_request(message: Mapping[str, Any]) -> PredictionRequest:
    """The images of a message that :func:`decode_request` returned. A string tensor (``elem_type`` 12) is an image too.

    Raises:
        ServingError: fewer values than keys, no image, a tensor that is no text.
    """
    keys, values = message["key"], message["value"]
    if len(keys) > len(values):  # the words of protobuf's C++ core, in which the real service looks the values up
        raise ServingError(ErrNo.RPC_PACKAGE, f"rpc package error: list index ({len(values)}) out of range")
    pairs = [(key, values[number]) for number, key in enumerate(keys)]  # values beyond the keys are left, as there
    for tensor in message["tensors"]:
        if tensor["elem_type"] not in _TENSOR_TYPES:
            raise ServingError(ErrNo.RPC_PACKAGE, f"rpc package error: elem_type:{tensor['elem_type']} error")
        if tensor["elem_type"] != _STRING_TENSOR:
            name = go_json.shortened(tensor["name"])
            raise ServingError(ErrNo.INPUT, f"tensor '{name}': send images as base64 text (elem_type 12)")
        pairs.append((tensor["name"], "".join(tensor["str_data"])))
    if not pairs:
        raise ServingError(ErrNo.INPUT, 'no image: send {"key": ["image"], "value": ["<base64>"]}')
    return PredictionRequest(pairs, message["logid"])


def image_name(key: str) -> str:
    """What messages call the image of a key."""
    return f"image '{go_json.shortened(key)}'"


def response(features: np.ndarray) -> dict[str, Any]:
    """The answer that carries embeddings, float32 [N, D]."""
    return {"err_no": 0, "err_msg": "", "key": [FEATURES], "value": [embeddings_text(features)], "tensors": []}


def error(err_no: int, err_msg: str) -> dict[str, Any]:
    """The answer that carries an error."""
    return {"err_no": int(err_no), "err_msg": go_json.valid_text(err_msg), "key": [], "value": [], "tensors": []}


def gateway_error(message: str, code: int = 3) -> dict[str, Any]:
    """What the gateway itself answers to a body that is no message (``code`` 3: invalid argument; HTTP 400)."""
    return {"error": message, "code": code, "message": message, "details": []}


def encode(answer: Mapping[str, Any]) -> bytes:
    """The HTTP body of an answer, as the gateway writes it: field order, compact, Go's escapes, no final newline."""
    return go_json.encode(answer)


def parse_response(answer: Any) -> np.ndarray:
    """Embeddings float32 [N, D] of a decoded answer.

    Raises:
        ServingError: the service reported an error, or it is no answer of a pipeline service.
    """
    if not isinstance(answer, Mapping) or "err_no" not in answer:
        raise ServingError(ErrNo.UNKNOWN, f"no answer of a pipeline service: {str(answer)[:200]}")
    if answer["err_no"]:
        raise ServingError(answer["err_no"], answer.get("err_msg", ""))
    try:
        text = dict(zip(answer["key"], answer["value"], strict=True))[FEATURES]
        return np.array(json.loads(text), np.float32, ndmin=2)
    except (KeyError, TypeError, ValueError) as problem:
        raise ServingError(ErrNo.UNKNOWN, f"no list of '{FEATURES}' in the answer: {problem}") from problem


def embeddings_text(features: np.ndarray) -> str:
    """``str()`` of the nested list [N, D], numbers at the precision of float32: reading it gives the same float32."""
    return "[" + ", ".join(embedding_text(row) for row in features) + "]"


def embedding_text(row: np.ndarray) -> str:
    """``[0.25, -1.5, …]`` of one embedding float32 [D]; valid Python and JSON as long as the numbers are finite."""
    numbers = row.tolist()
    text = (("%.9g, " * len(numbers)) % tuple(numbers))[:-2]  # a third of the time of str(list)
    if (row == np.trunc(row)).any():
        text = _WHOLE.sub(r"\1.0", text)
    return f"[{text}]"


def _items(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise cannot_unmarshal(value, "[]json.RawMessage")
    return value


def _texts(value: Any) -> list[str]:
    return [_text(item) for item in _items(value)]


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or isinstance(value, Number):
        raise cannot_unmarshal(value, "string")
    return value if value.isascii() else go_json.valid_text(value)


def _integer(value: Any, bits: int) -> int:
    """Also the text of a number: that is how 64-bit integers are written in protobuf's JSON."""
    if value is None:
        return 0
    if isinstance(value, str) and not isinstance(value, Number):
        inner = go_json.decode(value.encode("utf-8", "replace"), go_json.END_OF_TEXT)
        if inner is None:
            raise GatewayError(go_json.END_OF_TEXT)
        value = inner
    whole = isinstance(value, Number) and _WHOLE_NUMBER.fullmatch(value)
    if not whole or not -(2**bits) <= int(value) < 2**bits:
        raise cannot_unmarshal(value, f"int{bits + 1}")
    return int(value)


def _tensor(value: Any) -> dict[str, Any]:
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise cannot_unmarshal(value, "map[string]json.RawMessage")
    return {
        "str_data": _texts(value.get("str_data")),
        "elem_type": _integer(value.get("elem_type", value.get("elemType")), _INT32),
        "name": _text(value.get("name")),
    }


_WHOLE = re.compile(r"(?<![\d.e+-])(-?\d+)(?=,|$)")
_WHOLE_NUMBER = re.compile("-?[0-9]{1,19}")
