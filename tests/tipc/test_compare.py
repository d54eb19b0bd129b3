"""Comparing results with a ground truth."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ppcls.utils.errors import UserError
from test_tipc.runner.compare import Tolerance, compare_files, differences, read_results, write_ground_truth
from tests.tipc.conftest import ROOT

LOOSE = Tolerance(atol=1e-3, rtol=1e-3)
VECTOR = [0.5, -1.25, 2.0, 0.0]
FINITE = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.dictionaries(st.from_regex(r"[\w.]+\.jpg", fullmatch=True), st.lists(FINITE, min_size=1), min_size=1))
def test_a_ground_truth_agrees_with_what_it_was_written_from(tmp_path_factory, results):
    path = tmp_path_factory.mktemp("gt") / "gt.txt"
    write_ground_truth(path, results)
    assert differences(read_results(path), results, LOOSE) == []
    if any(np.any(values) for values in results.values()):
        turned = {name: [-value for value in values] for name, values in results.items()}
        assert differences(read_results(path), turned, LOOSE)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({}, "a.jpg: no result"),
        ({"a.jpg": VECTOR[:3]}, "a.jpg: 3 numbers instead of 4"),
        ({"a.jpg": [*VECTOR[:3], float("nan")]}, "a.jpg: not all numbers are finite"),
        ({"a.jpg": "text"}, "a.jpg: not a list of numbers"),
        ({"a.jpg": {"label": 3}}, "a.jpg: no embedding"),
        ({"a.jpg": [0.5, -1.25, 2.01, 0.0]}, "1 of 4 numbers differ, the most at 2: 2.01 instead of 2"),
        ({"a.jpg": [-value for value in VECTOR]}, "a.jpg: cosine -1.000000 < 0.9999"),
    ],
)
def test_differences_of_embeddings_are_found(found, message):
    assert any(message in line for line in differences({"a.jpg": {"embedding": VECTOR}}, found, LOOSE))


def test_differences_within_the_tolerances_are_none():
    close = [0.5014, -1.2479, 2.0029, 0.0009]
    assert differences({"a.jpg": VECTOR}, {"a.jpg": close, "more.jpg": [1]}, LOOSE) == []
    assert differences({"a.jpg": VECTOR}, {"a.jpg": close}, Tolerance(atol=1e-4, rtol=1e-4))
    assert differences({"a.jpg": VECTOR}, {"a.jpg": close}, Tolerance(1, 1, cosine=1.0))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ({"mAP": 0.2, "R1": 0.5}, "market mAP: 0.2 instead of 0.31 ± 0.1"),
        ({"mAP": 0.42, "R1": 0.5}, "market mAP: 0.42 instead of 0.31 ± 0.1"),
        ({"mAP": float("nan"), "R1": 0.5}, "market mAP: not a number"),
        ({"mAP": "0.31", "R1": 0.5}, "market mAP: not a number"),
        ({"R1": 0.5}, "market: no mAP"),
        ({"mAP": 0.31, "R1": 0.51}, "market R1: 0.51 instead of 0.5 ± 0.0015"),
    ],
)
def test_metrics_have_tolerances_of_their_own(found, message):
    truth = {"market": {"mAP": {"value": 0.31, "atol": 0.1, "rtol": 0}, "R1": 0.5}}
    assert differences(truth, {"market": {"mAP": 0.4, "R1": 0.5005}}, LOOSE) == []
    assert differences(truth, {"market": found}, LOOSE) == [message]


def test_every_kind_of_result_file_is_read(tmp_path):
    expected = {"a b.jpg": {"embedding": VECTOR}}
    (tmp_path / "x.jsonl").write_text(json.dumps({"path": "some/a b.jpg", "embedding": VECTOR}) + "\n\n")
    np.savez(tmp_path / "x.npz", paths=np.array(["some/a b.jpg"]), embeddings=np.array([VECTOR]))
    (tmp_path / "x.log").write_text(f"started\nsome/a b.jpg\t{json.dumps(expected['a b.jpg'])}\nnone\t[1,\n\t3\n")
    for name in ("x.jsonl", "x.npz", "x.log"):
        assert differences(expected, read_results(tmp_path / name), LOOSE) == [], name
    line = {"dataset": "market", "mAP": 0.3, "cmc": {"1": 0.4, "5": 0.5}}
    (tmp_path / "eval.json").write_text(json.dumps({"checkpoint.pdparams": {"results": [line]}}))
    assert read_results(tmp_path / "eval.json") == {"market": {"mAP": 0.3, "R1": 0.4}}


def test_lines_of_a_logger_are_found_by_the_image(tmp_path):
    (tmp_path / "x.log").write_text("[2022/12/16 10:00:00] ppcls INFO: images/a.jpg\t[1.0, 2.0]\n")
    assert read_results(tmp_path / "x.log")["a.jpg"] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("name", "content"),
    [("x.npz", b"PK"), ("x.jsonl", b"{"), ("x.jsonl", b'{"path": 1}'), ("x.json", b"[]"), ("x.npz", b"")],
)
def test_results_that_cannot_be_read_are_errors(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        read_results(tmp_path / name)


def test_each_precision_has_its_ground_truth(tmp_path):
    (tmp_path / "python_fp32.txt").write_text("a.jpg\t[1.0]\n")
    (tmp_path / "python_fp16.txt").write_text("a.jpg\t[2.0]\n")
    (tmp_path / "infer_precision_fp16_1.log").write_text("a.jpg\t[2.0]\n")
    (tmp_path / "infer_precision_False_1.log").write_text("a.jpg\t[1.0]\n")
    verdicts = compare_files(f"{tmp_path}/python_*.txt", f"{tmp_path}/infer_*.log", LOOSE)
    assert [(verdict.compared, verdict.differences) for verdict in verdicts] == [(1, ()), (1, ())]
    (wrong,) = compare_files(f"{tmp_path}/python_*.txt", f"{tmp_path}/infer_*False*.log", LOOSE, "fp16")
    assert wrong.differences
    with pytest.raises(UserError, match="has no ground truth for int8"):
        compare_files(f"{tmp_path}/python_*.txt", f"{tmp_path}/infer_*False*.log", LOOSE, "int8")


@pytest.mark.parametrize(
    ("truth", "log", "message"),
    [
        ("gt_*.txt", "none.log", "none.log: no such file"),
        ("none_*.txt", "ok.log", "none_.*no such file"),
        ("gt*.txt", "ok.log", "are both ground truth for fp32"),
        ("ok.log", "ok.log", None),
        ("empty", "ok.log", "holds no line of ground truth"),
    ],
)
def test_what_cannot_be_compared_is_an_error(tmp_path, truth, log, message):
    for name in ("gt_a.txt", "gtb.txt", "ok.log"):
        (tmp_path / name).write_text("a.jpg\t[1.0]\n")
    (tmp_path / "empty").write_text("no line\n")
    if message is None:
        assert not compare_files(str(tmp_path / truth), str(tmp_path / log), LOOSE)[0].differences
        return
    with pytest.raises(UserError, match=message):
        compare_files(str(tmp_path / truth), str(tmp_path / log), LOOSE)


def test_the_command_takes_the_published_flags_and_can_fail(tmp_path):
    truth, log = tmp_path / "gt_fp32.txt", tmp_path / "log.txt"
    flags = [f"--gt_file={truth}", f"--log_file={log}", "--atol=1e-3", "--rtol=1e-3", "--precision=fp32"]

    def compare(*more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(ROOT / "test_tipc/compare_results.py"), *flags, *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    log.write_text("a.jpg\t[1.0, 2.0]\n")
    assert compare().returncode == 2
    assert compare("--write_gt").returncode == 0
    good = compare()
    assert good.returncode == 0 and f"Assert allclose passed! The results of {log} and {truth} are" in good.stdout
    log.write_text("a.jpg\t[1.0, 2.1]\n")
    bad = compare()
    assert bad.returncode == 1 and "a.jpg: 1 of 2 numbers differ" in bad.stdout and "failed!" in bad.stdout


def test_the_shipped_ground_truth_is_of_the_shipped_images():
    folder = ROOT / "test_tipc/results"
    truth = read_results(folder / "python_AGD_embeddings_fp32.txt")
    assert set(truth) == {path.name for path in (folder / "images").iterdir()}
    vectors = np.array([value["embedding"] for value in truth.values()])
    assert vectors.shape == (8, 512)
    # They tell the images apart: no image's result would pass for another's.
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert np.max(unit @ unit.T - 2 * np.eye(8)) < 0.9999
