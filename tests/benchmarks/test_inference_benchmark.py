"""Exported models and the service are measured by what they really did; wrong or missing answers are noticed."""

import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import _inference_work, _load, _measure, _service, _serving_table, inference, serving
from benchmarks._workload import Job
from ppcls.utils.errors import UserError

FOLDER = Path(__file__).parents[2] / "benchmarks"


def run(name, *flags):
    argv = [sys.executable, str(FOLDER / f"{name}.py"), *flags]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    """(figures, Markdown) of both comparisons at toy size."""
    path = tmp_path_factory.mktemp("figures") / "results.json"
    flags = ["--small", "--threads", "1", "--torch-python", "none", "--only", "inference", "serving"]
    done = run("run_all", *flags, "--output", str(path))
    assert done.returncode == 0, done.stderr
    return json.loads(path.read_text()), done.stdout


@pytest.mark.slow
def test_every_backend_gives_the_networks_answers(figures):
    found = figures[0]["inference"]
    assert found["agree"]
    assert found["auto"] in found["threads"]["1"]
    assert {"onnxruntime", "paddle", "paddle-plain"} <= set(found["threads"]["1"])
    for row in found["threads"]["1"].values():
        assert row["difference"] <= 1e-4
        assert row["p50"] == pytest.approx(np.percentile(row["seconds"]["1"], 50) * 1e3)
        assert row["speed"]["16"] == pytest.approx(16 / row["seconds"]["16"][0])
        assert row["ratio"] is None
    assert found["threads"]["1"]["paddle"]["about"].startswith("paddle 3.")
    assert "PyTorch skipped: left out by --torch-python none" in figures[1]


@pytest.mark.slow
def test_the_service_answers_everything_it_accepts(figures):
    found = figures[0]["serving"]
    assert found["agree"]
    assert list(found["throughput"]) == ["8"]
    assert all(row["rate"] > 0 and row["lost"] == 0 for row in found["throughput"].values())
    assert (len(found["soak"]["windows"]), found["soak"]["lost"]) == (5, 0)
    over = found["overload"]
    assert set(over["codes"]) == {"200", "503"}
    assert sum(over["codes"].values()) == over["sent"]
    assert (over["embedded"], over["lost"], over["left"]) == (over["codes"]["200"], 0, 0)
    assert "| 8 |" in figures[1]


@pytest.mark.slow
def test_pytorchs_network_gives_the_same_answers(tmp_path):
    python, reason = _measure.find_torch(None)
    if python is None:
        pytest.skip(reason)
    job = Job("inference", 1, steps=1, depth=50, height=64, width=32)
    _measure.run_once(inference.export_row(tmp_path), job)
    settings = _measure.Settings(1, 16, 1, 1, True, python)
    rows = {row.key: row for row in inference.rows_of(settings, tmp_path)[0]}
    assert _measure.run_once(rows["eager"], job)["difference"] <= 1e-4


def test_a_wrong_answer_is_noticed(tmp_path):
    job = Job("inference", 1, steps=1, depth=18, height=8, width=4)
    answers = _inference_work.images(job).mean((2, 3))
    _inference_work.write_reference(tmp_path, answers)
    right = _inference_work.measure(job, tmp_path, lambda batch: batch.mean((2, 3)))
    wrong = _inference_work.measure(job, tmp_path, lambda batch: batch.mean((2, 3)) + 0.01 * (len(batch) == 16))
    broken = _inference_work.measure(job, tmp_path, lambda batch: batch.mean((2, 3)) * np.float32("nan"))
    assert right["difference"] == 0
    assert wrong["difference"] == pytest.approx(0.01 / np.abs(answers).max(), rel=1e-3)
    assert not broken["difference"] <= _inference_work.LIMIT
    assert {batch: len(seconds) for batch, seconds in right["seconds"].items()} == {"1": 32, "16": 1, "64": 1}


def report_of(milliseconds, difference=1e-6):
    seconds = {str(batch): [batch * milliseconds / 1e3] * 3 for batch in _inference_work.BATCHES}
    return {"about": "x", "seconds": seconds, "peak": 2**20, "difference": difference}


def result_of(**reports):
    """An inference comparison of hand-written reports, one thread."""
    rows = inference.with_ratios({key: inference.summary(key, [report]) for key, report in reports.items()})
    machine = {"processor": "p", "cores": 2, "others": 0.0}
    job = replace(Job("inference", 1), steps=3).as_dict()
    shared = {"job": job, "repeat": 1, "machine": machine, "missing": [], "agree": True, "auto": "onnxruntime"}
    return shared | {"threads": {"1": rows}}


def test_a_faster_backend_than_the_default_is_told():
    told = list(inference.verdict(result_of(onnxruntime=report_of(30), openvino=report_of(20), eager=report_of(60))))
    assert told[1:] == [f"1 thread(s), batch {batch}: OpenVINO, float32 is 50% FASTER." for batch in (1, 16, 64)]


def test_only_backends_that_pass_the_gate_are_compared():
    told = list(inference.verdict(result_of(onnxruntime=report_of(30), openvino=report_of(20, difference=5e-3))))
    assert told[1:] == [f"1 thread(s), batch {batch}: the fastest of ours." for batch in (1, 16, 64)]
    told = list(inference.verdict(result_of(onnxruntime=report_of(30, difference=float("nan")))))
    assert told[1:] == ["1 thread(s): it differs by more than 1e-04 from the training network."]


def test_ratios_are_to_pytorch_as_written():
    result = result_of(onnxruntime=report_of(30), eager=report_of(60))
    assert result["threads"]["1"]["onnxruntime"]["ratio"]["16"] == pytest.approx(2.0)
    lines = inference.text(result).splitlines()
    assert sum("33.3 (2.00x)" in line for line in lines) == 1
    assert "| 33.3 (2.00×) |" in inference.markdown(result)


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (200, b'{"err_no":0,"err_msg":"","value":[]}', 200),
        (200, b'{"err_no":6000,"err_msg":"late"}', 6000),
        (200, b'{"err_no":0,"err_msg":""', -1),
        (200, b"<html>", -1),
        (503, b'{"err_no":51,"err_msg":"busy"}', 503),
    ],
)
def test_answers_are_told_apart(status, body, code):
    assert _load.code_of(status, body) == code


def test_requests_without_a_result_or_a_refusal_are_lost():
    report = {"requests": [(0.0, 1.0, 200), (0.0, 2.0, 503), (1.0, 3.0, 6000)], "broken": 2, "unanswered": 1}
    assert serving.lost(report) == 4
    assert serving.latencies(report, 0.0, 2.0) == {"rate": 0.5, "p50": 1000.0, "p99": 1000.0}


def plan_of(tmp_path, port, **wanted):
    picture = tmp_path / "picture"
    picture.write_bytes(b"jpeg")
    return _load.Plan(port=port, path="/reid/prediction", pictures=(str(picture),), **wanted)


@pytest.mark.parametrize("rate", [0.0, 100.0])
def test_the_load_generator_counts_what_a_server_did(tmp_path, rate):
    """Every third request is answered in two pieces, every fifth connection is cut without an answer."""
    seen = []

    async def serve(reader, writer):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            size = int(head.lower().partition("content-length: ")[2].split()[0])
            seen.append(json.loads(await reader.readexactly(size)))
            if len(seen) % 5 == 0:
                writer.close()
                return
            body = b'{"err_no":0,"key":[]}'
            answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            writer.write(answer[:30])
            await asyncio.sleep(0.01 if len(seen) % 3 == 0 else 0)
            writer.write(answer[30:])

    async def both():
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await _load.Load(plan_of(tmp_path, port, seconds=0.3, connections=4, rate=rate)).run()

    found = asyncio.run(both())
    assert seen[0] == {"key": ["image"], "value": ["anBlZw=="], "logid": 0}
    assert len(found["requests"]) + found["broken"] == len(seen)
    assert found["broken"] == len(seen) // 5 > 0
    assert found["unanswered"] == 0
    assert {code for _, _, code in found["requests"]} == {200}
    assert set(found["answers"]) == {0}


def test_a_service_that_does_not_start_is_one_line(tmp_path):
    service = _service.running(tmp_path / "none", _measure.environment(1), [])
    with pytest.raises(UserError, match="did not start.*no exported model"), service:
        pass


def test_the_soaks_windows_are_named_by_their_seconds():
    window = {"rate": 40.0, "p50": 1.0, "p99": 2.0, "memory": 2**20}
    assert [line[0] for line in _serving_table.windows({"window": 30.0, "windows": [window] * 2})] == ["0-30", "30-60"]


def test_wrong_flags_are_one_line():
    done = run("serving", "--seconds", "0")
    assert (done.returncode, done.stderr) == (2, "error: --seconds 0.0: must be at least 0.1\n")
