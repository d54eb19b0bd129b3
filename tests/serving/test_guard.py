"""Tokens, request ids, the log, the figures."""

from __future__ import annotations

import io
import json
import logging

import pytest
import requests

from ppcls.configs.serving import TOKEN_VARIABLE, ServeOptions
from ppcls.serving.app import find_token
from ppcls.serving.logs import LOGGER, log_json
from ppcls.utils.errors import UserError
from tests.serving.conftest import pairs, picture

TOKEN = "a-long-secret"


@pytest.fixture
def locked(serve, tmp_path):
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return serve(token_file=str(path), index_dir=str(tmp_path / "indexes"))


@pytest.mark.parametrize(
    "header", [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer é"]
)
def test_without_the_token_nothing_is_answered(locked, header):
    headers = {} if header is None else {"Authorization": header.encode()}
    answer = locked.post("/reid/prediction", pairs(picture(1)), headers=headers)
    assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert answer.json()["err_no"] == 52 and list(answer.json())[:2] == ["err_no", "err_msg"]
    for route in ("/reid-embed", "/reid-infer", "/reid-index-build", "/reid-index-add", "/reid-index-remove"):
        answer = locked.post(route, {}, headers=headers)
        assert answer.status_code == 401
        assert list(answer.json()) == ["logId", "errorCode", "errorMsg"] and answer.json()["errorCode"] == 401
    assert requests.get(f"{locked.url}/metrics", headers=headers, timeout=9).status_code == 401
    assert requests.get(f"{locked.url}/nothing", headers=headers, timeout=9).status_code == 401
    assert locked.predictor.batches == []


def test_with_the_token_everything_is(locked):
    for kind in ("Bearer", "bearer"):
        answer = locked.post("/reid/prediction", pairs(picture(1)), headers={"Authorization": f"{kind} {TOKEN}"})
        assert answer.json()["err_no"] == 0


def test_health_and_pages_are_open(locked):
    for path in ("/health", "/", "/docs", "/openapi.json"):
        assert requests.get(locked.url + path, timeout=9).status_code == 200
    operation = requests.get(f"{locked.url}/openapi.json", timeout=9).json()["paths"]["/reid-embed"]["post"]
    assert operation["security"] == [{"token": []}] and "401" in operation["responses"]


def test_a_refused_body_is_not_read(locked):
    """401 comes although the announced body never does."""
    with locked.connect() as connection:
        connection.sendall(b"POST /reid-embed HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 401")


def test_token_of_the_environment(monkeypatch, tmp_path):
    for text in ("from-env", " from-env\n"):  # blanks do not come through in a header: nobody could come in
        monkeypatch.setenv(TOKEN_VARIABLE, text)
        assert find_token(ServeOptions()) == "from-env"
    path = tmp_path / "token"
    path.write_text("from-file")
    assert find_token(ServeOptions(token_file=str(path))) == "from-file"
    monkeypatch.setenv(TOKEN_VARIABLE, "")
    assert find_token(ServeOptions()) is None
    for text in (" ", "two words"):
        monkeypatch.setenv(TOKEN_VARIABLE, text)
        with pytest.raises(UserError, match=f"{TOKEN_VARIABLE} holds no token"):
            find_token(ServeOptions())


@pytest.mark.parametrize("content", [None, b"", b" \n", b"two words", b"\xff\xfe"])
def test_unusable_token_files(tmp_path, content):
    path = tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="token"):
        find_token(ServeOptions(token_file=str(path)))


def test_request_ids_go_in_and_out(shared):
    answer = requests.get(f"{shared.url}/health", headers={"X-Request-Id": "order-66.a_b"}, timeout=9)
    assert answer.headers["x-request-id"] == answer.json()["logId"] == "order-66.a_b"
    made_up = [requests.get(f"{shared.url}/health", timeout=9).headers["x-request-id"] for _ in range(2)]
    assert len(set(made_up)) == 2
    for odd in ("a b", "x" * 129, 'quote"', ""):
        answer = requests.get(f"{shared.url}/health", headers={"X-Request-Id": odd}, timeout=9)
        assert answer.headers["x-request-id"] not in (odd, "")


def test_log_has_one_json_line_a_request_and_no_secrets(serve, tmp_path):
    path = tmp_path / "token"
    path.write_text(TOKEN)
    server, stream, image = serve(token_file=str(path)), io.StringIO(), picture(1)
    before = LOGGER.handlers, LOGGER.propagate, LOGGER.level
    writer = log_json(stream)
    try:
        authorised = {"Authorization": f"Bearer {TOKEN}", "X-Request-Id": "mine"}
        server.post("/reid/prediction?token=leak", pairs(image, image), headers=authorised)
        server.post("/reid-embed", {"image": image})
        server.post("/reid-embed", {"image": "%%"}, headers=authorised)
        server.predictor.error = RuntimeError("boom")
        server.post("/reid/prediction", pairs(image), headers=authorised)
    finally:
        server.stop()
        writer.stop()
        LOGGER.handlers, LOGGER.propagate = before[:2]
        LOGGER.setLevel(before[2])
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    first, second, third, *rest = [line for line in lines if line["event"] == "request"]
    expected = {"request_id": "mine", "method": "POST", "path": "/reid/prediction", "status": 200, "error": 0}
    assert {**expected, "images": 2, "level": "info", "client": "127.0.0.1"}.items() <= first.items()
    assert first["time"].endswith("Z") and first["ms"] > 0
    assert (second["status"], second["images"], third["status"], third["error"]) == (401, 0, 422, 422)
    assert rest[0]["error"] == 9000
    assert any("boom" in line.get("trace", "") and line["level"] == "error" for line in lines)
    for secret in (TOKEN, image, "leak"):
        assert secret not in stream.getvalue()


def test_a_log_that_nobody_reads_delays_nothing():
    class Blocked(io.StringIO):
        def write(self, text):
            raise BrokenPipeError

    before = LOGGER.handlers, LOGGER.propagate, LOGGER.level
    writer = log_json(Blocked())
    try:
        for number in range(20_000):
            LOGGER.info("line %d", number)
    finally:
        writer.stop()
        LOGGER.handlers, LOGGER.propagate = before[:2]
        LOGGER.setLevel(before[2])
    assert not writer.is_alive()


def test_figures(serve):
    server = serve(max_batch=4)
    for _ in range(3):
        assert server.predict(picture(1), picture(2))["err_no"] == 0
    server.post("/reid-embed", {"image": "x"})
    server.post("/wrong/prediction", pairs(picture(1)))
    requests.get(f"{server.url}/some-unknown-path-{'x' * 50}", timeout=9)
    text = requests.get(f"{server.url}/metrics", timeout=9)
    assert text.headers["content-type"].startswith("text/plain; version=")
    expected = {
        'reid_requests_total{error="0",route="/{service}/{method}",status="200"}': 3,
        'reid_requests_total{error="3002",route="/{service}/{method}",status="200"}': 1,
        'reid_requests_total{error="422",route="/reid-embed",status="422"}': 1,
        'reid_requests_total{error="404",route="other",status="404"}': 1,
        'reid_request_seconds_count{route="/{service}/{method}"}': 4,
        "reid_images_total": 6,
        "reid_batch_images_sum": 6,
        "reid_batch_images_count": 3,
        "reid_inference_seconds_count": 3,
        "reid_queue_images": 0,
        "reid_request_bytes": 0,
        'reid_model_info{backend="onnxruntime"': 1,
    }
    assert {name: server.figure(name) for name in expected} == expected


def test_levels(caplog, serve, monkeypatch):
    """A client's mistake is no error of the service."""
    server = serve()
    monkeypatch.setattr(LOGGER, "propagate", True)
    with caplog.at_level(logging.INFO, "ppcls.serving"):
        server.post("/reid-embed", {"image": "x"})
    assert {record.levelname for record in caplog.records} == {"INFO"}
