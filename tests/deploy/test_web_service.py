"""The part of ``web_service.py`` that needs no Paddle Serving."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ppcls.configs.exported import read_exported, write_exported
from ppcls.retrieval.predictor import preprocess
from ppcls.serving.paddle_host import OperatorCodec, read_settings
from ppcls.serving.protocol import ServingError, parse_response
from ppcls.utils.errors import UserError
from tests.serving.conftest import HEIGHT, WIDTH
from tests.serving.pixel_model import make_onnx

HERE = Path(__file__).resolve().parents[2] / "deploy" / "paddleserving"


@pytest.fixture
def server(tmp_path):
    """A ``serving_server`` folder; the graph is not looked at."""
    folder = make_onnx(tmp_path / "serving_server")
    (folder / "serving_server_conf.prototxt").write_text("")
    return folder


def picture(height=33, width=19, mode="RGB"):
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, len(mode)), np.uint8)
    return Image.fromarray(pixels, mode)


def text_of(image):
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def settings_of(server, *changes):
    return read_settings(HERE / "config.yml", [f"op.reid.local_service_conf.model_config:{server}", *changes], "reid")


def test_preprocessing_is_that_of_the_predictors(server):
    model = read_exported(server)
    spec = model.input.model_copy(update={"mean": (0.1, 0.2, 0.3), "std": (0.5, 0.6, 0.7)})
    write_exported(server, model.model_copy(update={"input": spec}))
    images = [picture(), picture(5, 70)]
    feed = OperatorCodec(server).feed({"b": text_of(images[0]), "a": text_of(images[1])})
    expected = np.stack([preprocess(read_exported(server))(image) for image in images])
    assert list(feed) == ["x"] and feed["x"].dtype == np.float32
    np.testing.assert_array_equal(feed["x"], expected)


def test_answer_is_one_text_that_reads_back_exactly(server):
    rows = np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    answer = OperatorCodec(server).answer({"any_alias": rows})
    assert list(answer) == ["features"]
    message = {"err_no": 0, "key": list(answer), "value": list(answer.values())}
    np.testing.assert_array_equal(parse_response(message), rows)


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ({}, "no image"),
        ({"a": "***"}, "image 'a': not base64"),
        ({"a": ""}, "image 'a': empty image"),
        ({"good": None, "b": "AAAA"}, "image 'b': not an image"),
        ({"t": np.ones(3)}, "tensor 't'"),
        ({"good": None, "huge": "huge"}, "pixels"),
    ],
)
def test_bad_requests_are_input_errors(server, pairs, said):
    texts = {"good": text_of(picture())}
    if "huge" in pairs:
        texts["huge"] = text_of(Image.new("1", (20_000, 20_000)))
    with pytest.raises(ServingError, match=said) as refused:
        OperatorCodec(server).feed({key: texts.get(key, value) for key, value in pairs.items()})
    assert refused.value.err_no == 5000


def test_shipped_settings_fit_the_service(server):
    settings = settings_of(server)
    local = settings["op"]["reid"]["local_service_conf"]
    assert settings["http_port"] == 18080 and local["client_type"] == "local_predictor"
    assert local["fetch_list"] == ["features"] and local["device_type"] == 0
    assert (OperatorCodec(server).model.input.height, OperatorCodec(server).model.input.width) == (HEIGHT, WIDTH)


def test_changes_take_the_type_of_what_they_replace(server):
    changes = [
        "http_port:18099",
        'op.reid.local_service_conf.devices:"0"',
        "op.reid.local_service_conf.ir_optim:false",
        "op.reid.local_service_conf.fetch_list:[prediction]",
        "dag.is_thread_op: true",
    ]
    settings = settings_of(server, *changes)
    local = settings["op"]["reid"]["local_service_conf"]
    assert (settings["http_port"], local["devices"], local["ir_optim"]) == (18099, "0", False)
    assert local["fetch_list"] == ["prediction"] and settings["dag"]["is_thread_op"] is True


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("http_port", "expected KEY:VALUE"),
        ("http_prot:1", "no such setting; did you mean 'http_port'"),
        ("op.other.concurrency:1", "no such setting"),
        ("http_port.x:1", "no such setting"),
        ("http_port:many", "expected int"),
        ("http_port:[", "expected int"),
        ("op.reid.local_service_conf.fetch_list:a", "expected a list"),
        ("op.reid.local_service_conf.model_config:nowhere", "is no serving_server folder; make it with .*convert.py"),
    ],
)
def test_mistakes_in_changes(server, change, said):
    with pytest.raises(UserError, match=said):
        settings_of(server, change)


def test_settings_without_the_operator(server, tmp_path):
    path = tmp_path / "config.yml"
    path.write_text(yaml.safe_dump({"op": {"uci": {}}}))
    with pytest.raises(UserError, match=r"has no op.reid.local_service_conf.model_config"):
        read_settings(path, [], "reid")


def test_a_model_that_preprocesses_itself(server):
    model = read_exported(server)
    write_exported(server, model.model_copy(update={"input": model.input.model_copy(update={"layout": "NHWC"})}))
    with pytest.raises(UserError, match="preprocesses in its graph"):
        settings_of(server)


def run(cwd, *flags):
    return subprocess.run(
        [sys.executable, HERE / "web_service.py", *flags], cwd=cwd, capture_output=True, text=True, timeout=60
    )


def test_command_without_paddle_serving_says_what_to_do(server, tmp_path):
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: paddle_serving_server is not installed") and "setup_serving.sh" in done.stderr
    done = run(tmp_path / "serving_server")
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def test_set_up_needs_python_3_9(tmp_path):
    done = subprocess.run(
        ["bash", HERE / "setup_serving.sh", tmp_path / "new"],
        env={"PATH": "/usr/bin:/bin", "PYTHON39": sys.executable},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and "needs Python 3.9" in done.stderr and not (tmp_path / "new").exists()
