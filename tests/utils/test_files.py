"""Writes that a kill or a full disk cannot leave half done."""

import json
import os

import pytest

from ppcls.utils.errors import UserError
from ppcls.utils.files import append_line, atomic_path, atomic_write_text, read_json_lines, sweep_temporaries


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.txt"
    atomic_write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_reader_that_left_is_not_a_disk_that_is_full(tmp_path):
    with pytest.raises(BrokenPipeError), atomic_path(tmp_path / "file.txt"):
        raise BrokenPipeError
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_hold_the_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        atomic_write_text(tmp_path / "file" / "below.txt", "text")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")  # noqa: PTH110
def test_a_full_disk_is_named():
    with pytest.raises(UserError, match="No space left|cannot write /dev/full"):
        append_line("/dev/full", "{}")


def test_lines_after_a_cut_off_one_survive(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append_line(path, json.dumps({"n": 1}), json.dumps({"n": 2}))
    with path.open("a") as stream:
        stream.write('{"n": 3, "cut')
    append_line(path, json.dumps({"n": 4}))
    assert [record["n"] for record in read_json_lines(path)] == [1, 2, 4]
    assert read_json_lines(tmp_path / "nothing") == []


def test_leftovers_are_swept(tmp_path):
    (tmp_path / ".state.x1.part.pdstate").write_text("half")
    (tmp_path / "kept.part").write_text("")
    assert sweep_temporaries(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["kept.part"]
