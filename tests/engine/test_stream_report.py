"""Matrices, figures, tables and files of a stream's report."""

import json

import numpy as np
import pytest

from ppcls.engine.stream.report import StreamReport

NAN = float("nan")


@pytest.fixture
def report(tmp_path):
    matrix = np.array([[0.8, NAN, NAN], [0.6, 0.7, NAN], [0.5, 0.4, 0.9]])
    return StreamReport(tmp_path, ["a", "folder:/x/b", "c"], ["a", "b", "c"], {"mAP": matrix, "R1": matrix / 2})


def test_figures(report):
    summary = report.as_dict()["summary"]["mAP"]
    assert summary["average_after"] == pytest.approx([0.8, 0.65, 0.6])
    assert summary["forgetting"] == pytest.approx(((0.8 - 0.5) + (0.7 - 0.4)) / 2)
    assert summary["backward_transfer"] == pytest.approx(-0.3)
    assert summary["learning_accuracy"] == pytest.approx(0.8)
    assert summary["forward_transfer"] is None
    assert report.summary("R1").forgetting == pytest.approx(0.15)


def test_forward_transfer(report):
    report.matrices = {"mAP": np.array([[0.8, 0.2, 0.1], [0.6, 0.7, 0.3], [0.5, 0.4, 0.9]])}
    report.initial = {"mAP": np.array([0.05, 0.1, 0.1])}
    assert report.summary("mAP").forward_transfer == pytest.approx(((0.2 - 0.1) + (0.3 - 0.1)) / 2)
    assert "| untrained" in report.markdown()


def test_files(report):
    report.deleted = [{"what": "training images of a", "files": 12, "bytes": 345, "kept": 0, "links": 0}]
    report.write()
    written = json.loads((report.folder / "report.json").read_text())
    assert written["matrices"]["mAP"] == [[0.8, None, None], [0.6, 0.7, None], [0.5, 0.4, 0.9]]
    text = (report.folder / "report.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if "|" in line]
    assert ["after learning", "a", "b", "c", "average so far"] in rows
    assert ["2: b", "60.0", "70.0", "–", "65.0"] in rows
    assert ["change on a since it was learned", "-30.0", "-15.0"] in rows
    assert ["training images of a", "12", "345"] in rows
    for name in ("mAP.png", "R1.png", "curves.png"):
        assert (report.folder / name).read_bytes().startswith(b"\x89PNG")


def test_one_task(tmp_path):
    report = StreamReport(tmp_path, ["a"], ["a"], {"mAP": np.array([[0.5]])})
    report.write()
    assert report.as_dict()["summary"]["mAP"]["forgetting"] is None
    assert report.summary("mAP").final_average == 0.5
