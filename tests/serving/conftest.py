"""Real servers on free ports, in threads of this process, around a model whose pace the tests control."""

from __future__ import annotations

import base64
import io
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from ppcls.configs.exported import ExportedModel, InputSpec, OutputSpec, SourceSpec
from ppcls.configs.serving import ServeOptions
from ppcls.serving import create_app
from ppcls.serving.server import Server, bind, url_of

HEIGHT, WIDTH, DIM = 8, 4, 6


class SlowPixels:
    """Embedding of an image: the first six numbers of what preprocessing made of it.

    ``gate``: every batch waits for it to be set. ``batches``: sizes so far. ``error``: raised instead of an answer.
    """

    backend, precision, cpu_threads = "onnxruntime", "fp32", 1

    def __init__(self) -> None:
        self.model = ExportedModel(
            input=InputSpec(height=HEIGHT, width=WIDTH),
            output=OutputSpec(name="y", feature_dim=DIM),
            source=SourceSpec(checkpoint="none", digest="0", epoch=0, arch={}, classes_dropped=0),
            graphs=[],
        )
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.batches: list[int] = []
        self.error: Exception | None = None
        self.broken_value: float | None = None
        self.closed = False

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.batches.append(len(batch))
        self.entered.release()
        assert self.gate.wait(30)
        if self.error is not None:
            raise self.error
        rows = batch.reshape(len(batch), -1)[:, :DIM].copy()
        if self.broken_value is not None:
            rows[0, 0] = self.broken_value
        return rows

    def close(self) -> None:
        self.closed = True


class Running:
    """A server, its address and what is behind it."""

    def __init__(self, options: ServeOptions) -> None:
        self.predictor = SlowPixels()
        self.app = create_app(options, self.predictor)
        self.service = self.app.state.service
        listener, ready = bind(options), threading.Event()
        self.url, self.port = url_of(listener), listener.getsockname()[1]
        self.server = Server(self.app, ready.set)
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]})
        self.thread.start()
        assert ready.wait(20)

    def stop(self) -> None:
        self.predictor.gate.set()
        self.server.should_exit = True
        self.thread.join(30)
        assert not self.thread.is_alive()

    def post(self, route: str, message: object = None, **how) -> requests.Response:
        how.setdefault("timeout", 20)
        return requests.post(self.url + route, **({"json": message} if message is not None else {}), **how)

    def predict(self, *images: str, **how) -> dict:
        """Answer of the Paddle Serving route."""
        return self.post("/reid/prediction", pairs(*images), **how).json()

    def figure(self, name: str) -> float:
        """One line of /metrics; 0 if it is not there."""
        lines = requests.get(f"{self.url}/metrics", timeout=20).text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def in_background(self, *images: str, **how) -> BackgroundRequest:
        return BackgroundRequest(self, images, how)


class BackgroundRequest:
    """A request in a thread of its own."""

    def __init__(self, server: Running, images: tuple[str, ...], how: dict) -> None:
        self.answer: requests.Response | Exception | None = None

        def send() -> None:
            try:
                self.answer = server.post("/reid/prediction", pairs(*images), **how)
            except requests.RequestException as error:
                self.answer = error

        self.thread = threading.Thread(target=send)
        self.thread.start()

    def result(self) -> requests.Response:
        self.thread.join(30)
        assert isinstance(self.answer, requests.Response), self.answer
        return self.answer


def pairs(*images: str) -> dict:
    return {"key": [f"image_{number}" for number in range(len(images))], "value": list(images), "logid": 1}


def base64_of(image: Image.Image, kind: str = "PNG", **how) -> str:
    stream = io.BytesIO()
    image.save(stream, kind, **how)
    return base64.b64encode(stream.getvalue()).decode()


def picture(seed: int = 0, size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    """A PNG of random pixels, as base64."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    return base64_of(Image.fromarray(pixels))


def embedding_of(text: str) -> np.ndarray:
    """What :class:`SlowPixels` makes of an image of the model's own size, by the formula."""
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"), np.float32)[0, :, 0]
    more = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"), np.float32)[1, : DIM - WIDTH, 0]
    return ((np.concatenate([pixels, more]) / 255 - 0.485) / 0.229).astype(np.float32)


def rows_of(answer: dict) -> np.ndarray:
    """Embeddings of an answer of the Paddle Serving route."""
    assert answer["err_no"] == 0, answer
    return np.array(json.loads(answer["value"][0]), np.float32)


@pytest.fixture
def serve() -> Iterator:
    """``serve(**options) -> Running``; every server ends with the test."""
    running: list[Running] = []

    def start(**options) -> Running:
        running.append(Running(ServeOptions(**{"port": 0, **options})))
        return running[-1]

    yield start
    for server in running:
        server.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory) -> Iterator[Running]:
    """One server for the tests of a module that leave nothing behind but indexes."""
    folder: Path = tmp_path_factory.mktemp("indexes")
    server = Running(ServeOptions(port=0, index_dir=str(folder), max_body_mb=1, max_pixels=100_000, max_queue=8))
    yield server
    server.stop()
