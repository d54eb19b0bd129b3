"""``pipeline_http_client.py`` against a server that answers what real ones were recorded to answer."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from ppcls.configs.paddle_serving import ClientOptions
from ppcls.serving import protocol
from ppcls.serving.client import PipelineClient, read_token
from ppcls.serving.client_job import embed_files
from ppcls.serving.protocol import ServingError
from ppcls.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "tests" / "serving" / "fixtures" / "paddle_serving"


class Server(ThreadingHTTPServer):
    """``answer(message) -> (status, body)`` decides; ``asked`` keeps (path, Authorization, message)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked, self.answer = [], embed_length
        self.url = f"http://127.0.0.1:{self.server_port}/reid/prediction"

    def handle_error(self, request, client_address):
        """Clients that hang up are part of the tests."""


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        message = protocol.decode_request(body)
        self.server.asked.append((self.path, self.headers.get("Authorization"), message))
        status, answer = self.server.answer(message)
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Location", self.path)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_arguments):
        pass


def embed_length(message):
    """Rows (number of base64 characters, 0.25); an image of the text "bad" is refused by its key."""
    for key, text in protocol.parse_request(message).images:
        if text == "YmFk":
            return 200, protocol.encode(protocol.error(5000, f"image '{key}': not an image"))
    rows = np.array([[len(text), 0.25] for text in message["value"]], np.float32)
    return 200, protocol.encode(protocol.response(rows))


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def images(tmp_path):
    """Three files whose base64 texts are 4, 8 and 12 characters long."""
    folder = tmp_path / "bilder 1"
    folder.mkdir()
    for number in (1, 2, 3):
        (folder / f"{number}.jpg").write_bytes(b"abc" * number)
    return folder


def options(server, images, **changes):
    return ClientOptions(**{"url": server.url, "image": [str(images)], **changes})


def recorded(name):
    record = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
    return lambda _message: (record["status"], record["body"].encode())


def test_batches_keys_and_numbers(server, images, tmp_path):
    target = tmp_path / "out" / "embeddings.npz"
    assert embed_files(options(server, images, batch_size=2, logid=7, output=str(target))) == 0
    assert [(message["key"], message["logid"]) for _, _, message in server.asked] == [
        (["image_0", "image_1"], 7),
        (["image"], 9),
    ]
    with np.load(target) as saved:
        assert [Path(path).name for path in saved["paths"]] == ["1.jpg", "2.jpg", "3.jpg"]
        np.testing.assert_array_equal(saved["embeddings"], np.array([[4, 0.25], [8, 0.25], [12, 0.25]], np.float32))


def test_a_bad_image_costs_only_itself(server, images, capsys, tmp_path):
    (images / "2.jpg").write_bytes(b"bad")
    target = tmp_path / "embeddings.jsonl"
    assert embed_files(options(server, images, output=str(target))) == 1
    lines = [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]
    assert [(Path(line["path"]).name, line["embedding"]) for line in lines] == [
        ("1.jpg", [4.0, 0.25]),
        ("3.jpg", [12.0, 0.25]),
    ]
    said = capsys.readouterr().err.splitlines()
    assert said[0].endswith("2.jpg: refused: err_no 5000: image 'image': not an image")
    assert said[1:] == ["1 of 3 images were refused"]


def test_command_prints_json_lines_alone_and_sends_the_token(server, images, tmp_path):
    token = tmp_path / "token"
    token.write_text(" s3cret\n")
    (images / "3.jpg").write_bytes(b"bad")
    command = [sys.executable, ROOT / "deploy" / "paddleserving" / "pipeline_http_client.py", "--url", server.url]
    command += ["--image", images / "1.jpg", images / "3.jpg", "--output", "-", "--token-file", token]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 1 and "refused" in done.stderr and "Traceback" not in done.stderr
    assert json.loads(done.stdout) == {"path": str(images / "1.jpg"), "embedding": [4.0, 0.25]}
    assert {(path, given) for path, given, _ in server.asked} == {("/reid/prediction", "Bearer s3cret")}


@pytest.mark.parametrize(
    ("name", "number", "said"),
    [
        ("wrong_service", 3002, "Service name error"),
        ("fails_preprocess", 10000, "broken"),
        ("fails_slow", 6000, "exceeded retry count"),
        ("body_is_list", 400, "HTTP 400: json: cannot unmarshal array"),
        ("get", 405, "HTTP 405: Method Not Allowed"),
    ],
)
def test_recorded_errors_are_told(server, name, number, said):
    server.answer = recorded(name)
    with pytest.raises(ServingError, match=said) as refused:
        PipelineClient(server.url).embed([b"abc"])
    assert refused.value.err_no == number


def test_recorded_embeddings_are_read(server):
    server.answer = recorded("batch_of_three")
    rows = PipelineClient(server.url).embed([b"a", b"b", b"c"])
    assert rows.shape == (3, 6) and rows.dtype == np.float32
    assert rows[0, 0] == np.float32(-0.49105233)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((200, b"<html>"), "no JSON came back"),
        ((200, b"[]"), "no answer of a pipeline service"),
        ((200, protocol.encode(protocol.response(np.ones((2, 3), np.float32)))), "1 images sent"),
        ((200, b'{"err_no":0,"err_msg":"","key":["features"],"value":["[[NaN]]"],"tensors":[]}'), "not finite"),
        ((200, b'{"err_no":0,"err_msg":"","key":["label"],"value":["[1]"],"tensors":[]}'), "no list of 'features'"),
        ((302, b""), "HTTP 302"),
        ((401, b'{"err_no":52,"err_msg":"a token is needed","key":[],"value":[],"tensors":[]}'), "HTTP 401: a token"),
        ((503, b'{"logId":"1","errorCode":503,"errorMsg":"busy"}'), "HTTP 503: busy"),
    ],
)
def test_answers_that_are_none(server, answer, said):
    server.answer = lambda _message: answer
    with pytest.raises(ServingError, match=said):
        PipelineClient(server.url, "token").embed([b"abc"])
    assert len(server.asked) == 1  # a redirect is not followed


def test_nobody_there_and_nobody_answering(server, tmp_path):
    wait = threading.Event()
    server.answer = lambda _message: (wait.wait(10), (200, b""))[1]
    with pytest.raises(UserError, match=r"no answer within 0.2 s"):
        PipelineClient(server.url, timeout=0.2).embed([b"abc"])
    wait.set()
    free = Server()
    free.server_close()
    with pytest.raises(UserError, match="refused.*; is the service running"):
        PipelineClient(free.url).embed([b"abc"])


def test_the_environments_proxy_is_not_asked_for_this_machine(server, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert PipelineClient(server.url).embed([b"abc"]).shape == (1, 2)


@pytest.mark.parametrize(
    "url",
    ["127.0.0.1:18080", "ftp://host/reid/prediction", "http://host:99999/a/b", "http://host/reid", "http://[/a/b"],
)
def test_addresses_that_are_none(url):
    with pytest.raises(UserError, match="--url"):
        PipelineClient(url)


@pytest.mark.parametrize("content", [b"", b"two words", b"\xff", "t\u00f6ken".encode()])
def test_files_without_a_token(tmp_path, content):
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(UserError, match="token"):
        read_token(path)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "nothing to send: give --image FILE"),
        (["--image", "nowhere"], "nowhere: no such image or folder"),
        (["--image", ".", "--output", "x.csv"], "ends in .npz or .jsonl"),
        (["--image", ".", "--batch-size", "0"], "batch_size='0'"),
    ],
)
def test_mistakes_are_one_line(tmp_path, flags, said):
    command = [sys.executable, ROOT / "deploy" / "paddleserving" / "pipeline_http_client.py", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ") and said in done.stderr and done.stderr.count("\n") == 1
