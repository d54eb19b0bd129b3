"""The files around the code: licence, pins, Makefile targets, and a set-up that says what failed."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENT_FILES = sorted(ROOT.glob("requirements*.txt"))
LOCKED = ("requirements.txt", "requirements-serving.txt", "requirements-dev.txt")
PYTHONS = ("3.10", "3.11", "3.12")
TARGETS = ("help", "setup", "demo", "serve", "tipc", "test", "test-fast", "lint", "bench", "lite-benchmark", "clean")

needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def requirements(path: Path) -> list[Requirement]:
    lines = (line.split(" #")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def pins(path: Path, python: str) -> dict[str, str]:
    """Canonical name → version of the lines that hold on this Python version."""
    environment = {"python_version": python, "python_full_version": f"{python}.0"}
    valid = [line for line in requirements(path) if line.marker is None or line.marker.evaluate(environment)]
    names = [canonicalize_name(line.name) for line in valid]
    assert len(names) == len(set(names)), f"{path.name} pins a package twice on Python {python}"
    return {name: str(line.specifier).removeprefix("==") for name, line in zip(names, valid, strict=True)}


def run_setup(root: Path, venv: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "VENV": str(venv), **variables}
    command = ["bash", str(root / "tools/dev/setup.sh"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_licence_is_the_apache_text_word_for_word():
    digest = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()
    assert digest == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"


def test_every_requirement_is_pinned_exactly():
    assert {"requirements.txt", "requirements-dev.txt", "requirements-bench.txt"} <= {p.name for p in REQUIREMENT_FILES}
    for path in (*REQUIREMENT_FILES, ROOT / "constraints.txt"):
        for line in requirements(path):
            assert re.fullmatch(r"==[\w.]+", str(line.specifier)), f"{path.name}: {line}"


@pytest.mark.parametrize("python", PYTHONS)
def test_pins_are_one_per_package_and_leave_constraints_to_the_rest(python):
    direct = {name: pin for file in LOCKED for name, pin in pins(ROOT / file, python).items()}
    assert {"paddlepaddle", "numpy", "scipy", "pillow", "pyyaml", "visualdl", "paddle2onnx"} <= set(direct)
    assert not set(direct) & set(pins(ROOT / "constraints.txt", python))
    assert tuple(map(int, direct["numpy"].split(".")[:2])) < (2, 4)


@pytest.mark.parametrize("python", PYTHONS)
def test_library_ranges_admit_the_tested_pins(python):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    for ranges, files in (
        (project["dependencies"], ["requirements.txt"]),
        (extras["dev"], ["requirements-dev.txt"]),
        (extras["serving"], ["requirements-serving.txt"]),
        ([*extras["retrieval"], *extras["viz"]], ["requirements-extra.txt"]),
    ):
        pinned = {name: version for file in files for name, version in pins(ROOT / file, python).items()}
        allowed = {canonicalize_name(Requirement(line).name): Requirement(line).specifier for line in ranges}
        assert set(allowed) == set(pinned)
        for name, version in pinned.items():
            assert version in allowed[name], f"{name} {version} is outside {allowed[name]}"


def test_no_package_index_is_named():
    for path in (*REQUIREMENT_FILES, ROOT / "constraints.txt", ROOT / "Makefile", ROOT / "tools/dev/setup.sh"):
        assert not re.search(r"https?://|--(extra-)?index-url|--find-links", path.read_text(encoding="utf-8")), (
            path.name
        )


def plan(target: str) -> subprocess.CompletedProcess[str]:
    """What ``make target`` would do, as typed in a fresh shell (these tests may themselves run under make)."""
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "VENV", "PYTHON")
    environment = {name: value for name, value in os.environ.items() if name not in inherited}
    command = ["make", "-n", target]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@needs_make
@pytest.mark.parametrize("target", TARGETS)
def test_makefile_has_the_target(target):
    answer = plan(target)
    assert answer.returncode == 0, answer.stderr


@needs_make
@pytest.mark.parametrize("target", [name for name in TARGETS if name not in ("help", "clean")])
def test_each_working_target_sets_up_its_environment_first(target):
    assert plan(target).stdout.startswith("bash tools/dev/setup.sh ")


def broken_interpreter(folder: Path, body: str) -> Path:
    path = folder / "python3.11"
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (None, "no such command or file"),
        ("echo 'shim: no such version' >&2; exit 127", "does not run"),
        ("echo 3.9.18", "it is Python 3.9.18"),
        ('case "$2" in *version*) echo 3.12.1;; *) exit 1;; esac', "python3.12-venv"),
    ],
)
def test_setup_says_in_one_line_why_an_interpreter_will_not_do(tmp_path, body, reason):
    python = broken_interpreter(tmp_path, body) if body else tmp_path / "nowhere"
    answer = run_setup(ROOT, tmp_path / "venv", PYTHON=str(python))
    assert answer.returncode != 0
    (line,) = answer.stderr.splitlines()
    assert line.startswith("error: set-up failed: ")
    assert str(python) in line
    assert reason in line
    assert not (tmp_path / "venv").exists()


def test_setup_refuses_a_folder_that_is_something_else(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").write_bytes(b"keep me")
    answer = run_setup(ROOT, tmp_path / "photos", PYTHON=sys.executable)
    assert answer.returncode != 0
    assert "is not a Python environment" in answer.stderr
    assert (tmp_path / "photos" / "holiday.jpg").read_bytes() == b"keep me"


@pytest.fixture
def small_checkout(tmp_path: Path) -> Path:
    """The set-up script beside requirement files that need no network and a smoke test that leaves a trace."""
    root = tmp_path / "checkout"
    (root / "tools/dev").mkdir(parents=True)
    shutil.copy(ROOT / "tools/dev/setup.sh", root / "tools/dev/setup.sh")
    (root / "tools/dev/smoke.py").write_text("print('tried')\n", encoding="utf-8")
    for name in (*LOCKED, "constraints.txt"):
        (root / name).write_text("# nothing\n", encoding="utf-8")
    return root


@pytest.mark.slow
def test_setup_does_nothing_the_second_time_and_notices_changes(small_checkout, tmp_path):
    venv = tmp_path / "venv"
    first = run_setup(small_checkout, venv, PYTHON=sys.executable)
    assert first.returncode == 0, first.stderr
    assert "is ready (main" in first.stdout
    stamp = (venv / ".stamp-main").stat()

    second = run_setup(small_checkout, venv, PYTHON="")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert (venv / ".stamp-main").stat().st_mtime_ns == stamp.st_mtime_ns

    (small_checkout / "constraints.txt").write_text("six==1.17.0\n", encoding="utf-8")
    third = run_setup(small_checkout, venv, PYTHON="")
    assert "installing requirements.txt" in third.stdout
    assert "creating" not in third.stdout

    # A venv that was moved still runs, but its scripts point at the old place: it is built anew.
    moved = tmp_path / "moved"
    venv.rename(moved)
    fourth = run_setup(small_checkout, moved, PYTHON=sys.executable)
    assert fourth.returncode == 0, fourth.stderr
    assert "creating" in fourth.stdout


@pytest.mark.slow
def test_a_failed_setup_names_the_package_and_claims_nothing(small_checkout, tmp_path):
    venv = tmp_path / "venv"
    (small_checkout / "requirements-dev.txt").write_text("no-such-package-here==1.0\n", encoding="utf-8")
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": os.devnull}
    for _ in range(2):
        answer = run_setup(small_checkout, venv, "dev", PYTHON=sys.executable, **offline)
        assert answer.returncode != 0
        (line,) = answer.stderr.splitlines()
        assert line.startswith("error: set-up failed: installing requirements-dev.txt: ")
        assert "no-such-package-here==1.0" in line
        assert not list(venv.glob(".stamp-*"))

    # The same folder goes on to a good environment once the cause is gone.
    (small_checkout / "requirements-dev.txt").write_text("# nothing\n", encoding="utf-8")
    assert run_setup(small_checkout, venv, "dev", PYTHON=sys.executable, **offline).returncode == 0
    assert (venv / ".stamp-dev").is_file()

    # What does not import is not ready either.
    (small_checkout / "tools/dev/smoke.py").write_text("print('error: paddle is broken')\nexit(1)\n", encoding="utf-8")
    answer = run_setup(small_checkout, venv, "dev", PYTHON=sys.executable, **offline)
    assert "trying the installed packages: " in answer.stderr
    assert "paddle is broken" in answer.stderr
    assert not (venv / ".stamp-dev").exists()
