"""Both protocols over HTTP: results, and every kind of wrong request."""

from __future__ import annotations

import ast
import base64
import io
import json
import textwrap

import numpy as np
import pytest
import requests
from PIL import Image

from ppcls.retrieval.predictor import preprocess
from tests.serving.conftest import DIM, HEIGHT, WIDTH, embedding_of, pairs, picture, rows_of
from tests.serving.test_images import REFUSED


def test_batch_by_the_pipeline_protocol(shared):
    images = [picture(seed) for seed in range(5)]
    answer = shared.post("/reid/prediction", pairs(*images))
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/json"
    message = answer.json()
    assert list(message) == ["err_no", "err_msg", "key", "value", "tensors"]
    assert (message["key"], message["tensors"], message["err_msg"]) == (["features"], [], "")
    expected = np.stack([embedding_of(image) for image in images])
    np.testing.assert_allclose(rows_of(message), expected, rtol=1e-5)
    assert ast.literal_eval(message["value"][0]) == json.loads(message["value"][0])


def test_single_image_and_any_method_name(shared):
    image = picture(7)
    for route in ("/reid/prediction", "/reid/anything"):
        answer = shared.post(route, {"key": ["image"], "value": [image], "logid": "12"})
        np.testing.assert_allclose(rows_of(answer.json()), embedding_of(image)[None], rtol=1e-5)


def test_content_type_does_not_matter_to_the_pipeline_protocol(shared):
    body = json.dumps(pairs(picture(1)))
    assert shared.post("/reid/prediction", data=body, headers={"content-type": "text/plain"}).json()["err_no"] == 0


@pytest.mark.parametrize("name", REFUSED)
def test_unusable_images_by_the_pipeline_protocol(shared, name):
    answer = shared.post("/reid/prediction", {"key": ["a", "b"], "value": [picture(1), REFUSED[name][0]]})
    assert answer.status_code == 200
    message = answer.json()
    assert message["err_no"] == 5000 and message["err_msg"].startswith("image 'b': ")
    assert (message["key"], message["value"], message["tensors"]) == ([], [], [])


@pytest.mark.parametrize(
    ("body", "status", "number"),
    [
        (b"{}", 200, 5000),
        (b"", 200, 5000),
        (b'{"image": "AAAA"}', 200, 5000),
        (b'{"key": ["a", "b"], "value": ["AAAA"]}', 200, 8000),
        (b'{"key": "image", "value": "AAAA"}', 400, 3),
        (b"not json", 400, 3),
        (b"\xff\xd8\xff\xe0JFIF", 400, 3),
        (b"[]", 400, 3),
        (b'{"key": [', 400, 3),
        (b"[" * 50_000, 400, 3),
        (b'{"logid": 1' + b"0" * 5000 + b"}", 400, 3),
    ],
)
def test_bodies_that_are_no_request(shared, body, status, number):
    answer = shared.post("/reid/prediction", data=body)
    assert answer.status_code == status
    message = answer.json()
    assert message.get("err_no", message.get("code")) == number


def test_wrong_service_name(shared):
    answer = shared.post("/somebody/prediction", pairs(picture(1)))
    expected = b'{"err_no":3002,"err_msg":"Failed to inference: Service name error.","key":[],"value":[],"tensors":[]}'
    assert (answer.status_code, answer.content) == (200, expected)


def test_service_name_of_ones_own(serve):
    server = serve(name="people.v2")
    assert rows_of(server.post("/people.v2/prediction", pairs(picture(1))).json()).shape == (1, DIM)
    assert server.post("/reid/prediction", pairs(picture(1))).json()["err_no"] == 3002
    assert requests.get(f"{server.url}/health", timeout=9).json()["result"]["name"] == "people.v2"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_wrong_method(shared, method):
    answer = requests.request(method, f"{shared.url}/reid/prediction", timeout=9)
    assert (answer.status_code, answer.content) == (405, b"Method Not Allowed\n")
    answer = requests.request(method, f"{shared.url}/reid-embed", timeout=9)
    assert answer.status_code == 405 and answer.json()["errorCode"] == 405


@pytest.mark.parametrize("path", ["/reid", "/reid/a/b", "/reid-embed/", "/%2e%2e/%2e%2e/etc/passwd", "/reid-nothing"])
def test_no_such_route(shared, path):
    answer = requests.get(shared.url + path, timeout=9, allow_redirects=False)
    assert (answer.status_code, answer.json()["errorCode"]) == (404, 404)


def test_embeddings_in_paddlex_form(shared):
    images = [picture(seed) for seed in range(3)]
    answer = shared.post("/reid-embed", {"images": images})
    message = answer.json()
    assert (answer.status_code, message["errorCode"], message["errorMsg"]) == (200, 0, "Success")
    assert message["logId"] == answer.headers["x-request-id"]
    result = message["result"]
    np.testing.assert_allclose(result["embeddings"], np.stack([embedding_of(image) for image in images]), rtol=1e-5)
    assert (result["featureDim"], result["normalised"]) == (DIM, False)
    single = shared.post("/reid-embed", {"image": images[0]}).json()["result"]
    assert single["embeddings"] == result["embeddings"][:1]


@pytest.mark.parametrize(
    ("message", "where"),
    [
        ({}, ["body"]),
        ({"image": "", "images": []}, ["body", "images"]),
        ({"image": None, "images": None}, ["body"]),
        ({"image": 5}, ["body", "image"]),
        ({"images": "AAAA"}, ["body", "images"]),
        ({"images": ["AAAA", None]}, ["body", "images", 1]),
        ({"image": "AAAA", "img": "AAAA"}, ["body", "img"]),
        ([], ["body"]),
        ("text", ["body"]),
    ],
)
def test_validation_errors_are_a_list_as_json(shared, message, where):
    answer = shared.post("/reid-embed", message)
    assert answer.status_code == 422
    body = answer.json()
    assert list(body) == ["logId", "errorCode", "errorMsg"] and body["errorCode"] == 422
    assert where in [problem["loc"] for problem in json.loads(body["errorMsg"])]


def test_what_was_sent_is_not_sent_back(shared):
    secret = base64.b64encode(b"private picture").decode()
    assert secret not in shared.post("/reid-embed", {"image": secret, "other": secret}).text


@pytest.mark.parametrize("body", [b"", b"not json", b'{"image":', b"[" * 100_000, b"\xff"])
def test_no_json_in_paddlex_form(shared, body):
    answer = shared.post("/reid-embed", data=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422
    assert json.loads(answer.json()["errorMsg"])[0]["type"] == "json_invalid"


@pytest.mark.parametrize("kind", ["", "text/plain", "multipart/form-data", "application/x-www-form-urlencoded"])
def test_other_sites_cannot_make_a_browser_send_requests(shared, kind):
    """A page elsewhere can send these content types without being asked first; JSON it cannot."""
    answer = shared.post("/reid-embed", data=json.dumps({"image": picture(1)}), headers={"content-type": kind})
    assert answer.status_code == 415 and answer.json()["errorCode"] == 415


@pytest.mark.parametrize("name", ["http", "not base64", "empty", "animated gif", "jpeg cut in half", "20000 x 20000"])
def test_unusable_images_in_paddlex_form(shared, name):
    answer = shared.post("/reid-embed", {"images": [picture(1), REFUSED[name][0]]})
    assert answer.status_code == 422 and answer.json()["errorMsg"].startswith("images[1]: ")


def test_base64_with_line_ends(shared):
    image = picture(3)
    folded = "\n".join(textwrap.wrap(image, 20))
    np.testing.assert_allclose(rows_of(shared.predict(folded)), rows_of(shared.predict(image)))


def test_health_tells_what_is_served(shared):
    message = requests.get(f"{shared.url}/health", timeout=9).json()
    assert (message["errorCode"], message["errorMsg"]) == (0, "Healthy")
    expected = {"featureDim": DIM, "height": HEIGHT, "width": WIDTH, "backend": "onnxruntime", "model": "reid"}
    assert expected.items() <= message["result"].items()


def test_pages_need_nothing_from_elsewhere(shared):
    for path in ("/", "/docs"):
        answer = requests.get(shared.url + path, timeout=9)
        assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "://" not in answer.text


def test_a_failing_model_is_reported_and_serves_on(serve):
    server = serve()
    server.predictor.error = RuntimeError("secret detail")
    answer = server.post("/reid/prediction", pairs(picture(1)))
    assert (answer.status_code, answer.json()["err_no"]) == (200, 9000)
    other = server.post("/reid-embed", {"image": picture(1)})
    assert (other.status_code, other.json()["errorCode"]) == (500, 500)
    assert "secret" not in answer.text + other.text
    server.predictor.error = None
    assert server.predict(picture(1))["err_no"] == 0


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_numbers_that_json_cannot_carry_are_an_error(serve, number):
    server = serve()
    server.predictor.broken_value = number
    assert server.predict(picture(1))["err_no"] == 9000
    assert server.post("/reid-embed", {"image": picture(1)}).status_code == 500


def test_models_that_preprocess_in_the_graph_share_batches_too(serve, monkeypatch):
    """Images of several sizes in one request: rows of equal shape go through the model together."""
    server = serve()
    layout = server.predictor.model.input.model_copy(update={"layout": "NHWC"})
    monkeypatch.setattr(server.predictor.model, "input", layout)
    monkeypatch.setattr(server.service, "_prepare_image", preprocess(server.predictor.model))
    monkeypatch.setattr(
        server.predictor, "run", lambda batch: batch.reshape(len(batch), -1)[:, :DIM].astype(np.float32)
    )
    images = [picture(0, (10, 20)), picture(1, (10, 20)), picture(2, (30, 5)), picture(3, (1, 20))]
    rows = rows_of(server.predict(*images))
    for row, text in zip(rows, images, strict=True):
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB"))
        assert row.tolist() == pixels.reshape(-1)[:DIM].tolist()
