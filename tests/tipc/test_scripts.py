"""The shell scripts: which interpreter, which exit status, paths with spaces, a clone without an environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tipc.conftest import ROOT, STAND_IN, TEMPLATE, results, status_lines

SCRIPTS = sorted(path.name for path in (ROOT / "test_tipc").glob("*.sh") if path.name != "common.sh")
MODE = "lite_train_lite_infer"


@pytest.fixture
def clone(tmp_path):
    """A checkout whose path has a space, with stand-in programs and an interpreter of its own in .venv/bin."""
    root = tmp_path / "my clone"
    ignore = shutil.ignore_patterns("output", "__pycache__")
    shutil.copytree(ROOT / "test_tipc", root / "test_tipc", ignore=ignore)
    (root / "ppcls").symlink_to(ROOT / "ppcls")
    (root / "tools/dev").mkdir(parents=True)
    (root / "images").mkdir()
    for name in ("first", "train", "evaluate", "look", "export", "infer", "last"):
        (root / f"{name}.py").write_text(STAND_IN.replace("CALLS", repr(str(root / "calls"))), encoding="utf-8")
    (root / "toy.txt").write_text(TEMPLATE, encoding="utf-8")
    interpreter(root / ".venv/bin/python", root)
    return root


def interpreter(path: Path, root: Path, note: str = "") -> None:
    """A ``python`` that is the one of these tests, and notes that it was used."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'#!/bin/sh\necho {note or path.parent.parent.name} >> "{root}/used"\nexec "{sys.executable}" "$@"\n'
    )
    path.chmod(0o755)


def run(root: Path, script: str, *arguments: str, cwd: Path | None = None, **variables: str):
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "CONDA_PREFIX", "VENV")
    }
    return subprocess.run(
        ["bash", str(root / "test_tipc" / script), *arguments],
        cwd=cwd or root, env=inherited | variables, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("script", SCRIPTS)
def test_wrong_usage_exits_with_2_and_no_trace(clone, script):
    for arguments in ([], ["nowhere.txt", MODE], ["toy.txt", "no_such_mode"]):
        done = run(clone, script, *arguments)
        assert done.returncode == 2 and done.stderr and "Traceback" not in done.stderr, (script, arguments, done.stderr)
    assert not (clone / "test_tipc/output").exists()


def test_success_and_failure_are_exit_statuses(clone):
    good = run(clone, "test_train_inference_python.sh", "toy.txt", MODE)
    assert good.returncode == 0, good.stderr
    folder = clone / "test_tipc/output/toy" / MODE
    for line in status_lines(folder):
        assert line in good.stdout
    (clone / "toy.txt").write_text(TEMPLATE.replace("evaluate.py", "evaluate.py --die"), encoding="utf-8")
    bad = run(clone, "test_train_inference_python.sh", "toy.txt", MODE)
    assert bad.returncode == 1 and "\033[33m Run failed with command - python evaluate.py --die" in bad.stdout
    assert results(folder)["status"] == "failed"


def test_a_configuration_may_be_named_from_elsewhere(clone, tmp_path):
    (tmp_path / "mine.txt").write_text(TEMPLATE, encoding="utf-8")
    done = run(clone, "test_train_inference_python.sh", "mine.txt", MODE, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (clone / "test_tipc/output/toy" / MODE / "results.json").is_file()


def test_the_projects_environment_is_used_unless_another_is_active(clone, tmp_path):
    assert run(clone, "prepare.sh", "toy.txt", MODE).returncode == 0
    assert set((clone / "used").read_text().split()) == {".venv"}
    (clone / "used").unlink()
    interpreter(tmp_path / "other/bin/python", clone)
    path = f"{tmp_path / 'other/bin'}:{os.environ['PATH']}"
    assert run(clone, "prepare.sh", "toy.txt", MODE, VIRTUAL_ENV=str(tmp_path / "other"), PATH=path).returncode == 0
    assert set((clone / "used").read_text().split()) == {"other"}


def test_an_environment_is_built_where_python_has_no_paddle(clone, tmp_path):
    """The stand-in for the set-up script makes the interpreter; the one on PATH can import nothing."""
    shutil.rmtree(clone / ".venv")
    made = 'mkdir -p "$VENV/bin"; cp made "$VENV/bin/python"; echo "set-up: $1"\n'
    (clone / "tools/dev/setup.sh").write_text(made, encoding="utf-8")
    interpreter(clone / "made", clone, "built")
    bare = tmp_path / "bare/python"
    bare.parent.mkdir()
    bare.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    bare.chmod(0o755)
    path = f"{bare.parent}:{os.environ['PATH']}"
    done = run(clone, "test_train_inference_python.sh", "toy.txt", MODE, PATH=path)
    assert done.returncode == 0, done.stderr
    assert "python does not find all of: paddle" in done.stdout and "set-up: main" in done.stdout
    assert (clone / "used").read_text().count("built") >= 2


def test_a_set_up_that_fails_stops_everything(clone, tmp_path):
    shutil.rmtree(clone / ".venv")
    (clone / "tools/dev/setup.sh").write_text("echo 'error: set-up failed: no network' >&2; exit 1\n", encoding="utf-8")
    bare = tmp_path / "bare/python"
    bare.parent.mkdir()
    bare.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    bare.chmod(0o755)
    done = run(clone, "prepare.sh", "toy.txt", MODE, PATH=f"{bare.parent}:{os.environ['PATH']}")
    assert done.returncode == 1 and "set-up failed: no network" in done.stderr
    assert not (clone / "test_tipc/output").exists()


def test_prepare_runs_the_stages_that_make_data_and_checks_the_rest(clone):
    section = "==========prepare_params==========\ndata:first.py --make\n"
    (clone / "toy.txt").write_text(TEMPLATE + section, encoding="utf-8")
    done = run(clone, "prepare.sh", "toy.txt", MODE)
    assert done.returncode == 0 and "Run successfully with command - python first.py --make !" in done.stdout
    assert not (clone / "test_tipc/output/toy" / MODE).exists()
    (clone / "images").rmdir()
    done = run(clone, "prepare.sh", "toy.txt", MODE)
    assert done.returncode == 2 and "error: images does not exist" in done.stderr
