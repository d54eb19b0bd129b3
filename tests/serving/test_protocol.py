"""The Paddle Serving envelope, against what the real gateway answered (``recorded_gateway.json``).

The recording: the HTTP gateway of paddle-serving-server 0.9.0 in front of a service that answers every request with
itself as ``value[0]`` and its key/value pairs after it, and ``err_no`` 3002 for another service name than ``reid``.
"""

from __future__ import annotations

import ast
import base64
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppcls.serving import protocol
from ppcls.serving.protocol import ErrNo, GatewayError, ServingError

RECORDED = json.loads((Path(__file__).parent / "recorded_gateway.json").read_text(encoding="utf-8"))
POSTED = [record for record in RECORDED if record["method"] == "POST" and record["path"] == "/reid/prediction"]
REFUSED = [record for record in POSTED if record["status"] == 400]
TAKEN = [record for record in POSTED if record["status"] == 200]


def name(record) -> str:
    return record["name"]


@pytest.mark.parametrize("record", REFUSED, ids=name)
def test_bodies_are_refused_in_the_gateways_words(record):
    with pytest.raises(GatewayError) as refused:
        protocol.decode_request(base64.b64decode(record["body"]))
    assert protocol.encode(protocol.gateway_error(str(refused.value))) == record["answer"].encode()


@pytest.mark.parametrize("record", TAKEN, ids=name)
def test_bodies_are_read_and_answers_written_as_by_the_gateway(record):
    answer = json.loads(record["answer"])
    message = protocol.decode_request(base64.b64decode(record["body"]))
    assert message["key"] == answer["key"][1:]
    if not message["tensors"]:
        assert protocol.encode(answer) == record["answer"].encode()
    echoed = answer["value"][0]
    assert (f"logid: {message['logid']}\n" in echoed) == bool(message["logid"])


def test_recording_covers_what_matters():
    assert len(REFUSED) > 60 and len(TAKEN) > 15


def ask(message) -> protocol.PredictionRequest:
    return protocol.parse_request(protocol.decode_request(json.dumps(message).encode()))


@pytest.mark.parametrize("count", [1, 2, 12])
def test_request_there_and_back(count):
    images = [bytes([number]) * (number + 1) for number in range(count)]
    request = ask(protocol.build_request(images, logid=2**53 + 1))
    assert [base64.b64decode(text) for _, text in request.images] == images
    assert request.logid == 2**53 + 1
    assert request.images[0][0] == ("image" if count == 1 else "image_0")


def test_messages_do_not_repeat_megabytes():
    """An answer as large as its request would be kept for a client that does not read it."""
    long = "9" * 10**6
    refusals = [
        lambda: ask({"key": [5], "value": []}),
        lambda: protocol.decode_request(b'{"logid":' + long.encode() + b"}"),
        lambda: ask({"tensors": [{"name": long, "elem_type": 1, "str_data": []}]}),
    ]
    for refuse in refusals:
        with pytest.raises((GatewayError, ServingError)) as refused:
            refuse()
        assert len(str(refused.value)) < 300
    assert len(protocol.image_name(long)) < 120 and protocol.image_name("a") == "image 'a'"


def test_any_keys_are_a_batch_in_their_order():
    assert ask({"key": ["z", "a", "image0"], "value": ["1", "2", "3"]}).images == [
        ("z", "1"),
        ("a", "2"),
        ("image0", "3"),
    ]
    assert ask({"key": ["image", "image"], "value": ["1", "2"]}).images == [("image", "1"), ("image", "2")]


def test_string_tensor_is_an_image():
    tensor = {"name": "image", "elem_type": 12, "str_data": ["AA", "BB"]}
    assert ask({"tensors": [tensor]}).images == [("image", "AABB")]


@pytest.mark.parametrize(
    ("message", "number", "said"),
    [
        ({}, ErrNo.INPUT, "no image"),
        ({"key": [], "value": []}, ErrNo.INPUT, "no image"),
        ({"key": ["a", "b"], "value": ["x"]}, ErrNo.RPC_PACKAGE, r"error: list index \(1\) out of range$"),
        ({"tensors": [{"name": "t", "elem_type": 1, "float_data": [1]}]}, ErrNo.INPUT, "tensor 't'"),
        ({"tensors": [{"name": "t", "elem_type": 99}]}, ErrNo.RPC_PACKAGE, "rpc package error: elem_type:99 error"),
    ],
)
def test_messages_without_usable_images(message, number, said):
    with pytest.raises(ServingError, match=said) as refused:
        ask(message)
    assert refused.value.err_no == number


def test_answer_bytes():
    answer = protocol.response(np.array([[0.5, -1.25], [3, 1e-9]], np.float32))
    assert protocol.encode(answer) == (
        b'{"err_no":0,"err_msg":"","key":["features"],"value":["[[0.5, -1.25], [3.0, 9.99999972e-10]]"],"tensors":[]}'
    )


def test_error_bytes():
    answer = protocol.error(ErrNo.INPUT, 'key "<a>" & \ud800')
    assert (
        protocol.encode(answer)
        == (
            '{"err_no":5000,"err_msg":"key \\"\\u003ca\\u003e\\" \\u0026 \ufffd","key":[],"value":[],"tensors":[]}'
        ).encode()
    )


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40))
def test_numbers_survive_the_text(numbers):
    row = np.array(numbers, np.float32)
    text = protocol.embedding_text(row)
    read = ast.literal_eval(text)
    assert all(isinstance(number, float) for number in read)
    assert np.array_equal(np.array(read, np.float32), row)
    assert json.loads(text) == read


def test_answer_there_and_back():
    features = np.random.default_rng(0).normal(size=(3, 7)).astype(np.float32)
    answer = json.loads(protocol.encode(protocol.response(features)))
    assert np.array_equal(protocol.parse_response(answer), features)
    assert ast.literal_eval(answer["value"][0]) == json.loads(answer["value"][0])


@pytest.mark.parametrize(
    ("answer", "number"),
    [
        (protocol.error(ErrNo.TIMEOUT, "late"), 6000),
        ([], 10000),
        ({"error": "x", "code": 3}, 10000),
        ({"err_no": 0, "err_msg": "", "key": ["label"], "value": ["['a']"], "tensors": []}, 10000),
        ({"err_no": 0, "err_msg": "", "key": ["features"], "value": ["array([1., 2.])"], "tensors": []}, 10000),
        ({"err_no": 0, "err_msg": "", "key": ["features"], "value": ["[[1], [1, 2]]"], "tensors": []}, 10000),
    ],
)
def test_answers_without_embeddings(answer, number):
    with pytest.raises(ServingError) as refused:
        protocol.parse_response(answer)
    assert refused.value.err_no == number


@given(st.binary(max_size=60))
def test_any_bytes_are_taken_or_refused(body):
    try:
        message = protocol.decode_request(body)
    except GatewayError as refused:
        assert protocol.encode(protocol.gateway_error(str(refused)))
        return
    assert set(message) == {"key", "value", "tensors", "name", "method", "logid", "clientip"}


@given(st.text(alphabet='{}[]",:\\untrfalse0123.-+eE \nkvéÿ', max_size=25))
def test_anything_like_json_is_taken_or_refused(text):
    try:
        protocol.decode_request(text.encode())
    except GatewayError as refused:
        assert str(refused)


def test_nesting_without_end_is_refused():
    with pytest.raises(GatewayError, match="exceeded max depth"):
        protocol.decode_request(b"[" * 100_000)
