"""The pages of test_tipc/ tell the truth: scripts, files, modes, flags, lines of the dialects."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
from functools import cache

import pytest

from test_tipc.runner.config import read_config
from test_tipc.runner.dialects import TRAIN_TEMPLATE
from test_tipc.runner.jobs import open_job
from test_tipc.runner.modes import BENCHMARK, ONNX, SERVING, TRAIN_MODES
from test_tipc.runner.onnx import onnx_plan
from test_tipc.runner.serving import serving_plan
from test_tipc.runner.train_infer import plan, prepare_commands
from tests.tipc.conftest import ROOT

FOLDER = ROOT / "test_tipc"
PAGES = sorted(FOLDER.glob("**/*.md"))
CONFIGS = sorted((FOLDER / "configs").rglob("*.txt"))
MODES = {"train_params": TRAIN_MODES, "serving_params": (SERVING,), "paddle2onnx_params": (ONNX,)}


def commands(page) -> list[str]:
    """Lines of the bash blocks."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


@cache
def parser_of(name: str):
    """The argparse parser of a script of test_tipc/."""
    sys.path.insert(0, str(FOLDER))
    try:
        spec = importlib.util.spec_from_file_location(f"tipc_{name}", FOLDER / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(FOLDER))
    return module.make_parser()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_names_what_is_there(page):
    for command in commands(page):
        program, script, *arguments = shlex.split(command)
        assert (ROOT / script).is_file(), command
        if program == "python":
            parser_of("compare_results").parse_args(arguments)
            continue
        assert program == "bash" and script.startswith("test_tipc/"), command
        config = read_config(ROOT / arguments[0])
        allowed = (*MODES[config.layout.kind], BENCHMARK)
        assert all(word in allowed or word.startswith("dynamic_") for word in arguments[1:]), command


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s#]+)\)", page.read_text(encoding="utf-8")):
        assert target.startswith("https://") or (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_configuration_and_page_is_listed():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for path in CONFIGS:
        assert f"`{path.name}`" in text, path
    for page in PAGES:
        assert page.name == "README.md" or f"docs/{page.name}" in text, page


def test_the_flags_of_the_comparison_are_documented():
    text = (FOLDER / "docs/compare_results.md").read_text(encoding="utf-8")
    flags = {flag for action in parser_of("compare_results")._actions for flag in action.option_strings}
    assert {flag for flag in flags if flag.startswith("--")} - {"--help"} <= set(re.findall(r"--\w+", text))


def test_the_table_of_the_templates_lines_is_the_schema():
    text = (FOLDER / "docs/configuration.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.+?) \|", text, re.MULTILINE)
    assert len(rows) == 32 - 5  # and five lines of ##
    for number, cell in rows:
        slot = TRAIN_TEMPLATE.slots[int(number) - 1]
        assert set(re.findall(r"`([^`]+)`", cell)) <= set(slot.keys), (number, cell, slot)
    separators = [str(n) for n, slot in enumerate(TRAIN_TEMPLATE.slots, 1) if slot.is_separator]
    assert f"Lines {', '.join(separators[:-1])} and {separators[-1]} are `##`" in text


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_has_a_plan_in_every_mode(path, tmp_path, monkeypatch):
    """Composing reads every line, so a wrong place, mode or quote in a file would show here."""
    monkeypatch.chdir(tmp_path)
    for weights in ("logs/msmt17-market_XsimGD", "logs/msmt17"):
        (tmp_path / weights).mkdir(parents=True)
        (tmp_path / weights / "checkpoint.pdparams").write_text("")
    config = read_config(path)
    for mode in MODES[config.layout.kind]:
        job = open_job(config, mode)
        assert (len(prepare_commands(job)) == 1) == mode.startswith("lite_")
        if mode == SERVING:
            found = [command for step in serving_plan(job, None) for command in step.commands]
        else:
            found = onnx_plan(job) if mode == ONNX else plan(job)
        assert len(found) >= 4 and len({command.log for command in found}) == len(found)
        for command in found:
            script = next(word for word in command.argv if word.endswith(".py"))
            assert (ROOT / command.cwd / script).is_file(), command.shown
