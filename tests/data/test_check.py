"""The check finds what is wrong, says nothing about what is right, and its exit status tells."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ppcls.data.check import batch_shape, check_dataset
from ppcls.data.dataset import open_dataset
from ppcls.data.sample import Sample

TOOL = Path(__file__).parents[2] / "tools" / "check_dataset.py"


def check(root, **options):
    return check_dataset(open_dataset("market", root), **{"batch_sizes": [16], **options})


def kinds(report):
    return {problem.kind: problem.items for problem in report.problems}


def test_clean_data(tmp_path, make_market):
    make_market(tmp_path / "market")
    report = check(tmp_path, batch_sizes=[16, 24])
    assert report.clean and report.notes == []
    assert report.counts == [
        {"subset": "train", "ids": 6, "images": 30, "cameras": 3},
        {"subset": "query", "ids": 3, "images": 3, "cameras": 1},
        {"subset": "gallery", "ids": 3, "images": 6, "cameras": 2},
    ]
    json.dumps(report.as_dict())


@pytest.mark.parametrize("workers", [0, 2])
def test_everything_wrong_is_found(tmp_path, make_market, write_image, workers):
    root = make_market(tmp_path / "market")
    train, gallery = root / "bounding_box_train", root / "bounding_box_test"
    write_image(train / "0077_c1s1_0.jpg", 90001)  # one image
    write_image(root / "query" / "0555_c4s1_0.jpg", 90002)  # matches from its own camera only
    write_image(gallery / "0555_c4s1_1.jpg", 90003)
    write_image(gallery / "0000_c4s1_1.jpg", 90004)  # distractor
    whole = write_image(gallery / "0101_c5s1_0.jpg", 90005)
    whole.write_bytes(whole.read_bytes()[:-80])  # truncated
    write_image(gallery / "0006_c1s1_0.jpg", 90006)  # a training id
    shutil.copy(train / "0001_c1s1_000000_00.jpg", gallery / "0102_c9s1_0.jpg")  # leak
    shutil.copy(train / "0002_c1s1_000000_00.jpg", train / "0003_c2s1_9.jpg")  # duplicate
    report = check(tmp_path, batch_sizes=[16, 32, 18], workers=workers)
    found = kinds(report)
    assert found["single_image_ids"] == ["77"]
    assert [Path(item).name for item in found["unmatched_queries"]] == ["0555_c4s1_0.jpg"]
    assert len(found["unreadable"]) == 1 and "0101_c5s1_0.jpg: " in found["unreadable"][0]
    assert found["shared_ids"] == ["6"]
    assert len(found["leaked_files"]) == 1 and "0102_c9s1_0.jpg" in found["leaked_files"][0]
    assert len(found["duplicates"]) == 1 and "0003_c2s1_9.jpg" in found["duplicates"][0]
    assert found["duplicates"][0].endswith("(with different person ids)")
    unfilled = [problem.items[0] for problem in report.problems if problem.kind == "unfilled_batch"]
    assert unfilled == [
        "32 with 4 per person: it needs 8 persons, there are 7; largest 28",
        "18 with 4 per person: 18 is not a multiple of 4; largest 28",
    ]
    assert report.notes == [
        "1 of 7 training ids have fewer than 4 images; theirs repeat within a batch",
        "1 gallery images are distractors (id 0)",
    ]


def test_batch_shape_counts():
    samples = [Sample(str(k), k % 5, 0) for k in range(17)]
    shape = batch_shape(samples, 20, 4)
    assert (shape.persons, shape.ids, shape.short_ids, shape.largest_batch, shape.fits) == (5, 5, 3, 20, True)
    assert not batch_shape(samples, 24, 4).fits and not batch_shape(samples, 2, 4).fits


def test_mixed_sets_are_checked_per_query_set(tmp_path, make_market, write_image):
    make_market(tmp_path / "market", seed=1)
    make_market(tmp_path / "duke", seed=2)
    write_image(tmp_path / "duke" / "query" / "0900_c1.jpg", 90001)
    report = check_dataset(open_dataset("market+duke", tmp_path), [16])
    assert list(kinds(report)) == ["unmatched_queries"]
    assert "queries of duke" in report.problems[0].message


def run_tool(*arguments):
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command(tmp_path, make_market):
    root = make_market(tmp_path / "market")
    good = run_tool("--dataset", "market", "--data-root", tmp_path, "-b", 16)
    assert good.returncode == 0 and "nothing to mend" in good.stdout and "# cameras" in good.stdout
    broken = root / "query" / "0101_c1s1_000000_00.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    bad = run_tool("--dataset", "market", "--data-root", tmp_path, "-b", 16, "--json", tmp_path / "r.json")
    assert bad.returncode == 1 and str(broken) in bad.stdout
    report = json.loads((tmp_path / "r.json").read_text())["datasets"][0]
    assert [problem["kind"] for problem in report["problems"]] == ["unreadable"] and not report["clean"]
    wrong = run_tool("--dataset", "markt", "--data-root", tmp_path)
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: ") and wrong.stderr.count("\n") == 1
    assert run_tool("--no-such-flag").returncode == 2
    for wrong in (("-b", 0), ("--instances", 0), ("--workers", -1)):
        assert run_tool("--dataset", "market", "--data-root", tmp_path, *wrong).returncode == 2
