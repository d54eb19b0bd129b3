"""Exported, converted and served by real Paddle Serving, asked by this project's client.

Runs where PADDLE_SERVING_PYTHON names a Python that ``deploy/paddleserving/setup_serving.sh`` built.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ppcls.arch.reid_net import build_net
from ppcls.data.image import load_image
from ppcls.data.lite import make_lite_data
from ppcls.engine.checkpoint import save_checkpoint
from ppcls.retrieval import find_images
from ppcls.retrieval.predictor import embed_images, open_predictor
from tests.deploy import paddle_serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not paddle_serving.PYTHON, reason=paddle_serving.MISSING),
]

ROOT = Path(__file__).resolve().parents[2]
RECORDED = ROOT / "tests" / "serving" / "fixtures" / "paddle_serving"


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Checkpoint, images, ``exported`` and ``serving_server``."""
    work = tmp_path_factory.mktemp("host")
    make_lite_data(work / "data", ["market"], 4, 3, 2, 2, 64, 32, 0)
    net = build_net(depth=18, num_classes=4)
    save_checkpoint(work / "checkpoint.pdparams", net, 1, {"depth": 18, "height": 64, "width": 32})
    command = [sys.executable, ROOT / "tools" / "export_model.py", "--ckpt", work / "checkpoint.pdparams"]
    command += ["--save-inference-dir", work / "exported", "--format", "pdmodel", "--images", work / "data"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    paddle_serving.convert(work / "exported", work)
    return work


@pytest.fixture(scope="module")
def port(work):
    with paddle_serving.running(work / "serving_server", work) as port:
        yield port


def client(port, *flags):
    command = [sys.executable, paddle_serving.DEPLOY / "pipeline_http_client.py"]
    command += ["--url", f"http://127.0.0.1:{port}/reid/prediction", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_embeddings_are_those_of_the_exported_model(work, port):
    images, target = work / "data" / "market" / "query", work / "embeddings.npz"
    done = client(port, "--image", images, "--batch-size", "3", "--output", target)
    assert (done.returncode, done.stderr) == (0, "")
    with open_predictor(work / "exported", "paddle", cpu_threads=1) as predictor:
        expected = embed_images(predictor, [load_image(str(path)) for path in find_images(images)])
    with np.load(target) as saved:
        assert list(saved["paths"]) == [str(path) for path in find_images(images)]
        assert np.abs(saved["embeddings"] - expected).max() <= 1e-5 * np.abs(expected).max()


def test_client_tells_what_the_server_refuses(work, port, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    good = find_images(work / "data" / "market" / "query")[0]
    done = client(port, "--image", good, bad)
    assert done.returncode == 1 and f"{bad}: refused: err_no 5000" in done.stderr
    assert done.stdout.startswith(f"{good}\t512 numbers")
    wrong = client(port, "--image", good, "--url", f"http://127.0.0.1:{port}/other/prediction")
    assert wrong.returncode == 2 and "err_no 3002: Failed to inference: Service name error." in wrong.stderr


@pytest.mark.parametrize("name", ["wrong_base64", "wrong_service", "body_is_list", "empty_arrays", "get"])
def test_the_recordings_still_hold(port, name):
    record = json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))
    request = record["request"]
    status, headers, body = paddle_serving.ask(port, request["method"], request["path"], request["body"].encode())
    assert (status, headers["content-type"], body) == (
        record["status"],
        record["content_type"],
        record["body"].encode(),
    )
