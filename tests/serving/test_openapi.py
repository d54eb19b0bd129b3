"""The service does what its OpenAPI description says, whatever is sent: generated requests, all answers checked."""

from __future__ import annotations

import pytest
import requests

from ppcls.configs.serving import ServeOptions
from tests.serving.conftest import Running, picture

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed (requirements-dev.txt)")

from hypothesis import HealthCheck, assume, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from schemathesis import GenerationMode  # noqa: E402
from schemathesis.openapi import from_dict  # noqa: E402

EXAMPLES, ALL = 30, list(HealthCheck)

schemathesis.openapi.format("byte", st.sampled_from([picture(seed) for seed in range(3)]))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("indexes")
    server = Running(ServeOptions(port=0, index_dir=str(folder), default_index="people", max_indexes=1000))
    message = {"indexKey": "people", "imageLabelPairs": [{"image": picture(1), "label": "ann"}]}
    server.post("/reid-index-build", message)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def api(server):
    return from_dict(requests.get(f"{server.url}/openapi.json", timeout=9).json())


def spelt_as_float(value: object) -> bool:
    """Whether a number such as 1.0 is in it: an integer to JSON Schema, and none to Go, whose messages we speak."""
    if isinstance(value, dict):
        return any(spelt_as_float(item) for item in value.values())
    return isinstance(value, float) or (isinstance(value, list) and any(spelt_as_float(item) for item in value))


@pytest.mark.slow
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["valid", "invalid"])
def test_generated_requests(api, server, mode):
    """No answer with a status, header or body that the description does not have, no 5xx, nothing wrong accepted."""
    operations = [result.ok() for result in api.get_all_operations()]
    assert {operation.path for operation in operations} >= {"/reid-embed", "/reid-infer", "/{service}/{method}"}
    for operation in operations:
        if mode is GenerationMode.NEGATIVE and operation.method == "get":
            continue  # nothing to get wrong

        @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=ALL)
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case):
            assume(case.operation.path != "/{service}/{method}" or not spelt_as_float(case.body))
            case.call_and_validate(base_url=server.url, timeout=20)

        ask()
    assert server.figure("reid_queue_images") == server.figure("reid_request_bytes") == 0
