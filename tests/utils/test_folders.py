"""Folders that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ppcls.utils.errors import UserError
from ppcls.utils.folders import staged_folder

ROOT = Path(__file__).resolve().parents[2]

HOLD = """
import sys
from ppcls.utils.folders import staged_folder
with staged_folder(sys.argv[1]) as folder:
    (folder / "half").write_text("written")
    print(folder.name, flush=True)
    sys.stdin.read()
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_folder_and_its_replacement(tmp_path):
    target = tmp_path / "deep" / "größe [1]"
    for text in ("first", "second"):
        with staged_folder(target) as folder:
            (folder / "file").write_text(text)
            (folder / "below").mkdir()
            assert not target.exists() or (target / "file").read_text() == "first"
        assert (target / "file").read_text() == text
        assert names(target) == ["below", "file"] and names(target.parent) == [target.name]
    assert target.stat().st_mode & 0o777 == 0o777 & ~_umask()


def test_a_failure_leaves_what_was_there(tmp_path):
    target = tmp_path / "model"
    with staged_folder(target) as folder:
        (folder / "file").write_text("old")
    with pytest.raises(ZeroDivisionError), staged_folder(target) as folder:
        (folder / "file").write_text("new")
        raise ZeroDivisionError
    assert (target / "file").read_text() == "old" and names(tmp_path) == ["model"]


def test_a_link_stays_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with staged_folder(tmp_path / "link") as folder:
        (folder / "file").write_text("new")
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real/file").read_text() == "new"


def test_a_full_disk_is_one_line(tmp_path):
    with (
        pytest.raises(UserError, match="cannot write .*model: No space left on device"),
        staged_folder(tmp_path / "model"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert names(tmp_path) == []


def test_trouble_with_another_file_is_not_blamed_on_the_target(tmp_path):
    with pytest.raises(FileNotFoundError), staged_folder(tmp_path / "deep/model"):
        (tmp_path / "elsewhere").read_text()


def start(target: Path) -> tuple[subprocess.Popen, str]:
    """A process in the middle of writing ``target``, and the name of its staged folder."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(target)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    return process, process.stdout.readline().strip()


def test_what_a_killed_process_left_is_swept_and_a_living_one_is_not_disturbed(tmp_path):
    target = tmp_path / "model"
    killed, left = start(target)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert names(tmp_path) == [left]
    living, staged = start(target)
    try:
        assert names(tmp_path) == [staged]  # the living process swept when it began
        with staged_folder(target) as folder:
            (folder / "file").write_text("ours")
        assert names(tmp_path) == [staged, "model"]
    finally:
        living.communicate("go on")
    assert names(tmp_path) == ["model"] and names(target) == ["half"]


def test_a_replacement_killed_between_its_two_renames_is_undone(tmp_path):
    target = tmp_path / "model"
    old = tmp_path / ".model.abc.old"
    old.mkdir()
    (old / "file").write_text("old")
    with pytest.raises(ZeroDivisionError), staged_folder(target):
        raise ZeroDivisionError
    assert (target / "file").read_text() == "old" and names(tmp_path) == ["model"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
