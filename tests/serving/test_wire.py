"""The running service against recorded answers of real Paddle Serving 0.9.0, byte for byte.

``record_paddle_serving.py`` wrote the recordings; ``fixtures/paddle_serving_versions.json`` says with what.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from ppcls.serving import protocol
from ppcls.serving.problems import TimedOut
from tests.deploy.paddle_serving import ask
from tests.serving.conftest import DIM

FOLDER = Path(__file__).parent / "fixtures" / "paddle_serving"
RECORDED = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}

DIFFERENT = {
    "same_key_twice": "the real server embeds only the last of them and says nothing; here they are a batch",
    "one_segment": "here such paths are the PaddleX-style routes, with their form of 404",
    "fails_preprocess": "the same number, but no words of the exception to strangers",
    "fails_postprocess": "as above",
    "fails_predictor": "as above",
    "fails_slow": "the same number, in other words",
}
"""Recordings that the service does not repeat, and why."""


def replay(server, name):
    request = RECORDED[name]["request"]
    return ask(server.port, request["method"], request["path"], request["body"].encode())


@pytest.mark.parametrize("name", [name for name in RECORDED if name not in DIFFERENT])
def test_same_status_type_and_bytes(shared, name):
    recorded = RECORDED[name]
    status, headers, body = replay(shared, name)
    assert body == recorded["body"].encode()
    assert (status, headers["content-type"]) == (recorded["status"], recorded["content_type"])


def test_images_under_one_key_are_a_batch(shared):
    both = protocol.parse_response(json.loads(replay(shared, "same_key_twice")[2]))
    recorded = protocol.parse_response(json.loads(RECORDED["same_key_twice"]["body"]))
    assert (len(both), len(recorded)) == (2, 1)
    np.testing.assert_allclose(both[1:], recorded, rtol=1e-5, atol=1e-6)


def test_one_segment_is_not_found_either(shared):
    assert replay(shared, "one_segment")[0] == RECORDED["one_segment"]["status"] == 404


@pytest.mark.parametrize("name", ["fails_preprocess", "fails_postprocess", "fails_predictor"])
def test_a_failing_part_has_the_same_number_and_form(shared, monkeypatch, name):
    def broken(*_arguments):
        raise RuntimeError("it's <broken> & so on")

    monkeypatch.setattr("ppcls.serving.service.read_image", broken)
    recorded = RECORDED[name]
    status, _headers, body = replay(shared, name)
    answer, expected = json.loads(body), json.loads(recorded["body"])
    assert (status, answer["err_no"], list(answer)) == (recorded["status"], expected["err_no"], list(expected))
    assert "broken" in recorded["body"] and b"broken" not in body


def test_a_late_answer_has_the_same_number():
    recorded = RECORDED["fails_slow"]
    assert (TimedOut.err_no, TimedOut.paddle_status) == (json.loads(recorded["body"])["err_no"], recorded["status"])


def test_the_recordings_cover_the_protocol():
    numbers = {json.loads(record["body"]).get("err_no") for record in RECORDED.values() if record["status"] == 200}
    assert numbers == {0, 3002, 5000, 6000, 8000, 10000}
    assert {record["status"] for record in RECORDED.values()} == {200, 400, 404, 405}
    rows = protocol.parse_response(json.loads(RECORDED["batch_of_three"]["body"]))
    assert rows.shape == (3, DIM) and rows.dtype == np.float32
    assert set(DIFFERENT) < set(RECORDED)
