"""The client of Paddle Serving and this project's own service, as two programs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppcls.configs.exported import read_exported
from ppcls.retrieval.predictor import preprocess
from tests.deploy.paddle_serving import ask
from tests.serving.conftest import DIM
from tests.serving.pixel_model import make_onnx

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "tests" / "serving" / "fixtures" / "paddle_serving"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_onnx(tmp_path_factory.mktemp("pixels"))


@pytest.fixture(scope="module")
def url(model):
    """``deploy/serving/app.py`` on a free port."""
    command = [sys.executable, str(ROOT / "deploy" / "serving" / "app.py"), "--model-dir", str(model), "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, "--backend", "onnxruntime", "--cpu-threads", "1"], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            line = next((line for line in process.stdout if line.startswith("listening on ")), "")
            assert line, f"the service ended with status {process.wait(10)}"
            yield line.split()[-1]
        finally:
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
    assert process.returncode == 0


def test_client_gets_the_models_embeddings(model, url, tmp_path):
    rng = np.random.default_rng(0)
    pictures = [Image.fromarray(rng.integers(0, 256, (16 + number, 9, 3), np.uint8)) for number in range(5)]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    command = [sys.executable, ROOT / "deploy" / "paddleserving" / "pipeline_http_client.py", "--image", tmp_path]
    command += ["--url", f"{url}/reid/prediction", "--batch-size", "2", "--output", tmp_path / "embeddings.npz"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    transform = preprocess(read_exported(model))
    expected = np.stack([transform(picture).reshape(-1)[:DIM] for picture in pictures])
    with np.load(tmp_path / "embeddings.npz") as saved:
        np.testing.assert_array_equal(saved["embeddings"], expected)


@pytest.mark.parametrize("name", ["batch_of_three", "wrong_base64", "wrong_service", "body_is_list", "get"])
def test_bytes_on_the_wire_are_the_recorded_ones(url, name):
    record = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
    request, port = record["request"], int(url.rpartition(":")[2])
    status, headers, body = ask(port, request["method"], request["path"], request["body"].encode())
    assert (status, headers["content-type"], body) == (
        record["status"],
        record["content_type"],
        record["body"].encode(),
    )
