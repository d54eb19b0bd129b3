"""The service as its users start it: a process of its own, signals, killed workers, replaced models."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import requests

from ppcls.configs.serving import TOKEN_VARIABLE
from ppcls.retrieval.predictor import open_predictor
from ppcls.serving import protocol
from tests.serving.conftest import embedding_of, pairs, picture, rows_of
from tests.serving.pixel_model import DIM, make_onnx

ROOT = Path(__file__).resolve().parents[2]
APP = [sys.executable, str(ROOT / "deploy" / "serving" / "app.py")]


class Process:
    """A started service; what it printed; :meth:`stop` ends it, and only it."""

    def __init__(self, model: Path, *flags: object, log: Path, group: bool = False, **variables: str) -> None:
        command = [*APP, "--model-dir", str(model), "--port", "0", "--cpu-threads", "1", *map(str, flags)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **variables}
        self.log = log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=environment,
                start_new_session=group,
            )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if found := re.fullmatch(r"listening on (http://\S+)\n", line):
                self.url = found[1]
                return
        raise AssertionError(f"never ready: {log.read_text()}")

    def predict(self, image: str) -> dict:
        return requests.post(f"{self.url}/reid/prediction", json=pairs(image), timeout=30).json()

    def health(self) -> dict:
        return requests.get(f"{self.url}/health", timeout=30).json()["result"]

    def lines(self, event: str) -> list[dict]:
        lines = [json.loads(line) for line in self.log.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if line["event"] == event]

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        status = self.process.wait(60)
        self.process.stdout.close()
        return status


@pytest.fixture
def start(tmp_path):
    running: list[Process] = []

    def call(model: Path, *flags: object, group: bool = False, **variables: str) -> Process:
        running.append(Process(model, *flags, log=tmp_path / f"log{len(running)}", group=group, **variables))
        return running[-1]

    yield call
    for process in running:
        if process.process.poll() is None:
            process.process.kill()
        process.process.wait(30)


@pytest.fixture
def model(tmp_path):
    return make_onnx(tmp_path / "modèle 1")


def wait_until(condition, seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_start_serve_and_stop(start, model):
    process = start(model, "--name", "people")
    image = picture(1)
    answer = requests.post(f"{process.url}/people/prediction", json=pairs(image), timeout=30).json()
    np.testing.assert_allclose(rows_of(answer), embedding_of(image)[None], rtol=1e-5)
    with open_predictor(model) as predictor:
        assert process.health()["backend"] == predictor.backend
    assert process.stop() == 0
    assert [line["signal"] for line in process.lines("stopping")] == ["SIGTERM"]
    assert process.lines("listening")[0]["url"] == process.url
    with pytest.raises(requests.ConnectionError):
        process.health()


def test_token_of_the_environment(start, model):
    process = start(model, **{TOKEN_VARIABLE: "sesame"})
    assert process.predict(picture(1))["err_no"] == 52
    headers = {"Authorization": "Bearer sesame"}
    answer = requests.post(f"{process.url}/reid/prediction", json=pairs(picture(1)), headers=headers, timeout=30)
    assert answer.json()["err_no"] == 0
    assert process.stop(signal.SIGINT) == 0
    assert "sesame" not in process.log.read_text()


def test_sigterm_finishes_a_request_that_is_still_coming_in(start, model):
    process = start(model)
    body = json.dumps(pairs(picture(1))).encode()
    host, port = process.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = f"POST /reid/prediction HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body[:20])
        assert process.health()  # what was sent before has been read
        process.process.send_signal(signal.SIGTERM)
        wait_until(lambda: process.lines("stopping"))
        connection.sendall(body[20:])
        received = b""
        while part := connection.recv(65536):
            received += part
    assert b'"err_no":0' in received
    assert process.process.wait(30) == 0


def test_replaced_model_files_change_nothing_until_the_next_start(start, model):
    process, image = start(model), picture(2)
    before, digest = rows_of(process.predict(image)), process.health()["digest"]
    graph = model / "inference.onnx"
    graph.write_bytes(b"something else entirely")
    np.testing.assert_array_equal(rows_of(process.predict(image)), before)
    assert process.health()["digest"] == digest
    assert process.stop() == 0
    make_onnx(model)
    again = start(model)
    assert again.health()["digest"] == digest
    np.testing.assert_array_equal(rows_of(again.predict(image)), before)


@pytest.mark.slow
def test_workers_are_replaced_and_share_everything(start, model, tmp_path):
    process, image = start(model, "--workers", 2, "--index-dir", tmp_path / "indexes"), picture(3)
    workers = {line["pid"] for line in process.lines("model")}
    assert len(workers) == 2
    digest = process.health()["digest"]
    build = {"indexKey": "gate", "imageLabelPairs": [{"image": image, "label": "ann"}]}
    assert requests.post(f"{process.url}/reid-index-build", json=build, timeout=30).status_code == 200
    (model / "inference.onnx").write_bytes(b"something else entirely")

    failed, stop = [], threading.Event()

    def go_on_asking() -> None:
        """On connections of their own: those of a killed process die with it, and no request goes out on them."""
        while not stop.is_set():
            try:
                if process.predict(image)["err_no"]:
                    failed.append("refused")
            except requests.ConnectionError:
                failed.append("died")

    asking = threading.Thread(target=go_on_asking)
    asking.start()
    killed = min(workers)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: process.lines("worker ready"))
    stop.set()
    asking.join(30)
    assert failed in ([], ["died"])  # at most the request that the killed worker had in hand
    assert process.lines("worker ended")[0] | {"worker": killed, "status": -9} == process.lines("worker ended")[0]

    new = process.lines("worker ready")[0]["worker"]
    assert new not in workers
    wait_until(lambda: bool(process.predict(image)) and any(line["pid"] == new for line in process.lines("request")))
    assert {process.health()["digest"] for _ in range(10)} == {digest}  # the copy, not what lies there now
    found = [
        requests.post(f"{process.url}/reid-infer", json={"indexKey": "gate", "image": image}, timeout=30).json()
        for _ in range(10)
    ]
    assert {answer["result"]["recResults"][0]["label"] for answer in found} == {"ann"}

    def counted() -> list[str]:
        text = requests.get(f"{process.url}/metrics", timeout=30).text
        return re.findall(r'reid_requests_total{error="0",route="/reid-infer",status="200"} (\S+)', text)

    wait_until(lambda: counted() == ["10.0"])  # of both workers; a request is counted when its answer is out
    assert process.stop() == 0
    assert not any(_alive(line["worker"]) for line in process.lines("worker ready"))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_ctrl_c_reaches_every_worker_once(start, model):
    """A terminal sends it to the whole group, and the supervisor passes it on: together they must not mean "now"."""
    process = start(model, "--workers", 2, group=True)
    body, port = json.dumps(pairs(picture(1))).encode(), int(process.url.rsplit(":", 1)[1])
    head = f"POST /reid/prediction HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall(head + body[:20])
        assert process.health()
        time.sleep(0.5)  # the other worker may have answered that: let this one read
        os.killpg(process.process.pid, signal.SIGINT)
        wait_until(lambda: len(process.lines("stopping")) == 3)
        connection.sendall(body[20:])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
    assert process.process.wait(60) == 0


@pytest.mark.slow
def test_stopped_while_a_worker_is_being_replaced(start, model):
    """The one that never began to serve has lost nothing: status 0."""
    process = start(model, "--workers", 2)
    killed = min(line["pid"] for line in process.lines("model"))
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: process.lines("worker ended"))
    assert process.stop() == 0


@pytest.mark.slow
def test_workers_end_with_a_killed_supervisor(start, model):
    process = start(model, "--workers", 2)
    workers = {line["pid"] for line in process.lines("model")}
    process.process.kill()
    wait_until(lambda: not any(_alive(pid) for pid in workers))


def fails(*flags: object) -> str:
    done = subprocess.run([*APP, *map(str, flags)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
    assert "listening" not in done.stdout
    return done.stderr


def test_mistakes_are_one_line(model, tmp_path):
    assert "holds no exported model" in fails("--model-dir", tmp_path / "nowhere", "--port", 0)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port}" in fails("--model-dir", model, "--port", port)
    assert "token" in fails("--model-dir", model, "--port", 0, "--token-file", tmp_path / "none")
    assert "'a/b' does not fit into a URL" in fails("--model-dir", model, "--port", 0, "--name", "a/b")
    (model / "inference.onnx").write_bytes(b"no graph")
    message = fails("--model-dir", model, "--port", 0, "--workers", 2)
    assert str(model) in message


def test_help_needs_neither_model_nor_web_framework():
    done = subprocess.run([*APP, "--help"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "--max-queue" in done.stdout


@pytest.mark.slow
def test_a_trained_network_answers_as_its_predictor(start, run, task1, data, tmp_path):
    """Checkpoint → export → service: the embeddings over HTTP are those of the evaluation code."""
    run("export_model", "--ckpt", task1, "--save-inference-dir", tmp_path / "out", "--onnx", "--images", data)
    process = start(tmp_path / "out")
    from ppcls.engine.api import load_model

    files = sorted(data.rglob("*.jpg"))[:9]
    message = protocol.build_request([path.read_bytes() for path in files])
    answer = requests.post(f"{process.url}/reid/prediction", json=message, timeout=60).json()
    served, expected = protocol.parse_response(answer), load_model(task1).embed(files)
    assert served.shape == expected.shape and served.shape[1] != DIM
    assert np.abs(served - expected).max() < 1e-4 * np.abs(expected).max()
