"""Record what real Paddle Serving answers: ``fixtures/paddle_serving/*.json``, which ``test_wire.py`` compares with.

    deploy/paddleserving/setup_serving.sh /tmp/paddleserving
    PADDLE_SERVING_PYTHON=/tmp/paddleserving/bin/python .venv/bin/python tests/serving/record_paddle_serving.py

Each file holds one request and the answer's status, Content-Type and body. The server runs this project's operator
(``web_service.py``) on :mod:`tests.serving.pixel_model`; those named ``fails_…`` run ``broken_web_service.py``.
"""

from __future__ import annotations

import base64
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from PIL import Image

from tests.deploy import paddle_serving
from tests.serving.conftest import HEIGHT, WIDTH
from tests.serving.pixel_model import make_pdmodel

FOLDER = Path(__file__).parent / "fixtures" / "paddle_serving"
VERSIONS = FOLDER.with_name("paddle_serving_versions.json")
URL = "/reid/prediction"


def image(seed: int, height: int = HEIGHT, width: int = WIDTH, mode: str = "RGB") -> str:
    """base64 of a small random PNG."""
    channels = len(mode)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels.squeeze(), mode).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def ask_for(*values: str, keys: list[str] | None = None, **fields: object) -> dict:
    if keys is None:
        keys = ["image"] if len(values) == 1 else [f"image_{number}" for number in range(len(values))]
    return {"key": keys, "value": list(values), **fields}


ONE = image(0)

REQUESTS: dict[str, tuple[str, str, object]] = {
    "one_image": ("POST", URL, ask_for(ONE, logid=10000)),
    "batch_of_three": ("POST", URL, ask_for(ONE, image(1), image(2), logid=10001)),
    "batch_of_sizes_and_modes": ("POST", URL, ask_for(image(3, 31, 17), image(4, mode="RGBA"), image(5, 5, 9, "L"))),
    "order_of_keys": ("POST", URL, ask_for(ONE, image(1), keys=["b", "a"])),
    "lines_in_base64": ("POST", URL, ask_for("\n".join(ONE[at : at + 76] for at in range(0, len(ONE), 76)))),
    "logid_missing": ("POST", URL, ask_for(ONE)),
    "logid_text": ("POST", URL, ask_for(ONE, logid="12")),
    "logid_largest": ("POST", URL, ask_for(ONE, logid=2**63 - 1)),
    "logid_too_large": ("POST", URL, ask_for(ONE, logid=2**63)),
    "logid_fraction": ("POST", URL, ask_for(ONE, logid=1.5)),
    "logid_word": ("POST", URL, ask_for(ONE, logid="abc")),
    "logid_truth": ("POST", URL, ask_for(ONE, logid=True)),
    "logid_null": ("POST", URL, ask_for(ONE, logid=None)),
    "unknown_fields": ("POST", URL, ask_for(ONE, foo={"bar": [1]}, Key=["x"])),
    "other_method_segment": ("POST", "/reid/anything", ask_for(ONE)),
    "query_string": ("POST", URL + "?logid=5", ask_for(ONE)),
    "string_tensor": ("POST", URL, {"tensors": [{"name": "image", "elem_type": 12, "str_data": [ONE[:40], ONE[40:]]}]}),
    "number_tensor": ("POST", URL, {"tensors": [{"name": "t", "elem_type": 1, "float_data": [1, 2], "shape": [2]}]}),
    "unknown_tensor_type": ("POST", URL, {"tensors": [{"name": "t", "elem_type": 99}]}),
    "more_values_than_keys": ("POST", URL, ask_for(ONE, image(1), keys=["image"])),
    "more_keys_than_values": ("POST", URL, ask_for(ONE, keys=["image_0", "image_1"])),
    "value_missing": ("POST", URL, {"key": ["image"]}),
    "key_missing": ("POST", URL, {"value": [ONE]}),
    "empty_arrays": ("POST", URL, ask_for()),
    "empty_object": ("POST", URL, {}),
    "empty_body": ("POST", URL, b""),
    "null_body": ("POST", URL, b"null"),
    "same_key_twice": ("POST", URL, ask_for(ONE, image(1), keys=["image", "image"])),
    "wrong_base64": ("POST", URL, ask_for("***", logid=7)),
    "wrong_base64_in_batch": ("POST", URL, ask_for(ONE, "***", ONE)),
    "empty_image": ("POST", URL, ask_for("")),
    "not_an_image": ("POST", URL, ask_for("AAAA")),
    "key_to_escape": ("POST", URL, ask_for("***", keys=["<é&>\u2028\u0001\"\\/\U0001f600\x7f"])),
    "wrong_service": ("POST", "/other/prediction", ask_for(ONE, logid=10000)),
    "wrong_service_wrong_body": ("POST", "/other/prediction", b"[]"),
    "body_is_list": ("POST", URL, b"[]"),
    "body_is_number": ("POST", URL, b"1"),
    "body_is_no_json": ("POST", URL, b"image=1"),
    "body_is_cut_off": ("POST", URL, b'{"key": ["image"'),
    "body_goes_on": ("POST", URL, json.dumps(ask_for(ONE)).encode() + b" and more"),
    "key_is_text": ("POST", URL, {"key": "image", "value": [ONE]}),
    "value_is_number": ("POST", URL, {"key": ["image"], "value": [1]}),
    "value_is_null": ("POST", URL, {"key": ["image"], "value": [None]}),
    "get": ("GET", URL, b""),
    "one_segment": ("POST", "/reid", ask_for(ONE)),
}  # fmt: skip

FAILURES: dict[str, tuple[str, list[str]]] = {
    "fails_preprocess": ("preprocess", []),
    "fails_postprocess": ("postprocess", []),
    "fails_predictor": ("predictor", []),
    "fails_slow": ("slow", ["op.reid.timeout:50"]),
}
"""Name → part of ``broken_web_service.py``, changes to config.yml."""


def main() -> None:
    if not paddle_serving.PYTHON:
        sys.exit(f"error: {paddle_serving.MISSING}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        server = paddle_serving.convert(make_pdmodel(work / "exported"), work)
        with paddle_serving.running(server, work) as port:
            for name, request in REQUESTS.items():
                _record(name, port, *request)
        script = Path(__file__).parent / "broken_web_service.py"
        for name, (part, changes) in FAILURES.items():
            with paddle_serving.running(server, work, (script, part), changes) as port:
                _record(name, port, "POST", URL, ask_for(ONE, logid=10000))
    _record_versions()


def _record(name: str, port: int, method: str, path: str, content: object) -> None:
    body = content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=False).encode()
    status, headers, answer = paddle_serving.ask(port, method, path, body)
    record = {
        "request": {"method": method, "path": path, "body": body.decode()},
        "status": status,
        "content_type": headers["content-type"],
        "body": answer.decode(),
    }
    (FOLDER / f"{name}.json").write_text(json.dumps(record, indent=1, ensure_ascii=True) + "\n", encoding="utf-8")
    print(f"{name}: {status} {answer[:100]!r}")


def _record_versions() -> None:
    command = [paddle_serving.PYTHON, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
    listed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    wanted = ("grpcio", "numpy", "paddle", "pillow", "protobuf")
    versions = {item["name"]: item["version"] for item in listed if item["name"].startswith(wanted)}
    VERSIONS.write_text(json.dumps(versions, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
