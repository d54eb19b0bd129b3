"""The documents tell the truth: commands parse and run, flags, files, links and tables are what they say."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import inspect
import os
import re
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from ppcls.configs.algo import CONFIG_FOLDER, load_algo
from ppcls.configs.options import Options, resolve

ROOT = Path(__file__).resolve().parents[1]
READMES = [ROOT / "README.md", ROOT / "README_CN.md"]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "data/*.md", "checkpoints/*.md", "deploy/*/*.md", "test_tipc/*.md")
    for path in ROOT.glob(pattern)
)
PAGES += sorted((ROOT / "test_tipc/docs").glob("*.md"))
#: Commands: path below the root → their files. Paddle Serving's own process is none of ours to parse.
TOOLS = {
    str(path.relative_to(ROOT)): path
    for pattern in ("tools/*.py", "deploy/*/*.py", "test_tipc/*.py")
    for path in sorted(ROOT.glob(pattern))
    if not path.stem.startswith("_") and path.stem != "web_service"
}
FOREIGN_PROGRAMS = {"visualdl", "curl", "docker", "hadolint"}
#: Of other programs, and of other projects' TIPC configurations.
FOREIGN_FLAGS = {
    "--data-path",
    "--output-dir",
    "--opt",
    "--wait",
    "--time",
    "--logdir",
    "--language",
    "--nproc_per_node",
    "--no-deps",
}


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    """Lines of the bash blocks, continued lines joined, without comments."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return [text for line in lines if (text := line.split(" #")[0].strip()) and not text.startswith("#")]


def inline_commands(page: Path) -> list[str]:
    """Whole commands in running text and tables: `python tools/… --flag …`, without an ellipsis."""
    found = re.findall(r"`(python [^`\n]*(?:tools|deploy)/[\w/]+\.py [^`\n]*)`", prose(page))
    return [command for command in found if "…" not in command]


def tool_call(command: str) -> tuple[str, list[str]] | None:
    """("tools/<tool>.py", arguments) of ``python [launcher] tools/<tool>.py …``, also of deploy/; None for others."""
    launcher = r"(?:-m paddle\.distributed\.launch \S+ \d+ )?"
    match = re.fullmatch(rf"python {launcher}(?:\./)?\.?((?:tools|deploy|test_tipc)/[\w/]+\.py) ?(.*)", command)
    return (match[1], shlex.split(match[2])) if match else None


@cache
def tool(name: str) -> ModuleType:
    """A command's module. Its folder's path shim runs as it does for the command."""
    folder = str(TOOLS[name].parent)
    sys.path.insert(0, folder)
    sys.modules.pop("_path", None)
    try:
        spec = importlib.util.spec_from_file_location(TOOLS[name].stem, TOOLS[name])
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
        sys.modules.pop("_path", None)
    return module


def schema_of(module: ModuleType) -> type[Options] | None:
    """The option schema a command imports, if it has one."""
    own = [value for value in vars(module).values() if inspect.isclass(value) and issubclass(value, Options)]
    return own[0] if own else None


def test_both_readmes_show_the_same_commands_and_code():
    english, chinese = READMES
    assert commands(english) == commands(chinese)
    assert blocks(english, "python") == blocks(chinese, "python")
    assert blocks(english, "bibtex") == blocks(chinese, "bibtex")
    assert len(commands(english)) > 15


def test_both_readmes_have_the_same_sections_figures_and_links():
    shapes, figures, links = [], [], []
    for page in READMES:
        text = page.read_text(encoding="utf-8")
        shapes.append([line.split()[:2] for line in text.splitlines() if re.match(r"#+ \d", line)])
        figures.append(Counter(re.findall(r"\d+(?:[.,]\d+)? ?%|\d,\d{3}", text)))
        links.append(Counter(re.findall(r"\]\((?!README)([^#)]+)\)", text.replace("\n", ""))))
    assert shapes[0] == shapes[1]
    assert figures[0] == figures[1]
    assert links[0] == links[1]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_is_one_that_the_tools_take(page):
    for command in [*commands(page), *inline_commands(page)]:
        call = tool_call(command)
        if call is None:
            check_other(command)
            continue
        name, arguments = call
        assert name in TOOLS, command
        args = tool(name).make_parser().parse_args(arguments)
        if schema := schema_of(tool(name)):
            options = resolve(schema, args)
            if getattr(options, "algo_config", ""):
                load_algo(str(ROOT / options.algo_config) if "/" in options.algo_config else options.algo_config)


def check_other(command: str) -> None:
    """A command that is no tool: its target, file or program is there."""
    words = [word for word in shlex.split(command) if not re.match(r"[A-Z_]+=|setsid$", word)]
    if words[0] == "python" and words[1].startswith(("benchmarks/", "tests/")):
        assert (ROOT / words[1]).is_file(), command
    elif words[:3] == ["python", "-m", "pytest"]:
        assert all((ROOT / word).exists() for word in words[3:] if "/" in word), command
    elif words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert words[1] in {*targets}, command
    elif words[0] == "bash":
        assert all((ROOT / word).is_file() for word in words[1:] if "/" in word), command
    elif words[0].startswith(".venv-paddleserving/"):  # Paddle Serving's own Python; its flags are not ours to parse
        assert (ROOT / words[1]).is_file(), command
    elif words[0].endswith(".sh"):
        assert os.access(ROOT / words[0], os.X_OK), command
    elif words[:2] == ["pip", "install"] or "pip" in words:
        files = [word for word in words if word.endswith(".txt")]
        assert all((ROOT / file).is_file() for file in files), command
    elif words[0].startswith((".venv/bin/", ".ci/")) or words[0] in ("source", "cd", "tar", "export"):
        pass
    else:
        assert words[0] in FOREIGN_PROGRAMS, f"nothing checks this command: {command}"


def test_every_flag_that_a_page_names_exists():
    known = set(FOREIGN_FLAGS)
    for name in TOOLS:
        known |= {flag for action in tool(name).make_parser()._actions for flag in action.option_strings}
    for page in PAGES:
        code = "\n".join(re.findall(r"`([^`\n]+)`", prose(page)))
        named = {*re.findall(r"--[a-z][\w-]*", code)}
        assert named <= known, f"{page.name}: {sorted(named - known)}"


def test_the_published_spelling_of_the_tools_folder_works():
    assert (ROOT / ".tools").resolve() == ROOT / "tools"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    headings = {anchor(line) for line in prose(page).splitlines() if line.startswith("#")}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, fragment = target.partition("#")
        if path:
            assert (page.parent / path).exists(), f"{page.name} links to {target}"
        else:
            assert fragment in headings, f"{page.name} has no section #{fragment}"


def anchor(heading: str) -> str:
    """GitHub's anchor of a heading."""
    text = re.sub(r"[^\w\- ]", "", heading.lstrip("#").strip().lower())
    return text.replace(" ", "-")


def test_every_document_is_listed():
    index = (ROOT / "docs/README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index, page.name


def test_the_algorithms_page_is_the_list_of_the_files():
    rows = {}
    for line in (ROOT / "docs/algorithms.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.split(" | ")]
        if len(cells) == 6 and cells[1] in ("I", "X"):
            rows[cells[0].strip("|` ")] = (cells[1], float(cells[2].replace(",", "")))
    assert rows.keys() == {path.stem for path in CONFIG_FOLDER.glob("*.yaml")}
    for name, (command, factor) in rows.items():
        algo = load_algo(name)
        term = algo.regularization if algo.method_name in ("ewc", "mas") else algo.distillation
        assert (command, factor) == ("X" if algo.method_name == "augmented" else "I", term.factor), name


def test_the_switches_of_the_differences_page_exist():
    from ppcls import dream
    from ppcls.arch.reid_net import build_net
    from ppcls.inversion import DreamConfig
    from ppcls.metric.rerank import KReciprocal

    settings = {field.name for field in dataclasses.fields(DreamConfig)}
    known = {
        "build_net": set(inspect.signature(build_net).parameters),
        "DreamConfig": settings,
        "ppcls.dream": settings | set(inspect.signature(dream).parameters),
        "KReciprocal": {field.name for field in dataclasses.fields(KReciprocal)},
    }
    text = prose(ROOT / "docs/differences.md")
    found = re.findall(r"`(" + "|".join(map(re.escape, known)) + r")\(([^`]*)\)`", text)
    assert {name for name, _ in found} == set(known)
    for name, arguments in found:
        assert set(re.findall(r"(\w+)=", arguments)) <= known[name], (name, arguments)


SMALL_NET = "--depth 18 --height 32 --width 16 --pretrained none --workers 0"
SMALL_RUN = f"{SMALL_NET} --epochs 1 --batch-size 16 --warmup 0"
SERVICE = "deploy/serving/app.py"
SCALE = {
    "tools/make_lite_data.py": "--ids 8 --test-ids 4 --cams 2 --images-per-cam 2 --height 32 --width 16",
    "tools/check_dataset.py": "--batch-size 8",
    "tools/main.py": SMALL_RUN,
    "tools/main_finetune.py": SMALL_RUN,
    "tools/main_incremental.py": SMALL_RUN,
    "tools/main_incrementalX.py": SMALL_RUN,
    "tools/inversion.py": "--depth 18 --height 32 --width 16 --shots 4 --steps 1 1 --bs 32",
    "tools/evaluate.py": "--batch-size 16 --workers 0",
    "tools/ez_inference.py": "--batch-size 16",
    "tools/lifelong.py": f"{SMALL_RUN} --first-epochs 1 --first-warmup 0 --first-batch-size 16 --shots 4 --steps 1 1 "
    "--bs 32",
    "tools/export_model.py": "",
    "tools/build_gallery.py": "",
    "deploy/inference_python/infer.py": "",
    SERVICE: "",
    "deploy/paddleserving/pipeline_http_client.py": "",
}
LEFT_BEHIND = [
    "logs/msmt17/checkpoint.pdparams",
    "logs/msmt17_parallel/checkpoint.pdparams",
    "logs/msmt17-market_GD/checkpoint.pdparams",
    "logs/msmt17-market_simGD/checkpoint.pdparams",
    "logs/msmt17-market_XsimGD/checkpoint.pdparams",
    "logs/msmt17-market_XsimGD/eval.txt",
    "logs/msmt17-market_FT/checkpoint.pdparams",
    "logs/msmt17-market_LwF/checkpoint.pdparams",
    "logs/msmt17+market/checkpoint.pdparams",
    "logs/query.npz",
    "logs/stream/report.json",
    "inference/inference.yml",
    "inference/inference.onnx",
    "logs/query_embeddings.npz",
    "logs/query_matches.npz",
    "logs/served.npz",
]


@pytest.fixture
def workplace(tmp_path):
    """A folder like a fresh checkout, with ``python`` on the path."""
    for name in ("tools", ".tools", "ppcls", "deploy"):
        (tmp_path / name).symlink_to(ROOT / name.lstrip("."))
    (tmp_path / "data").mkdir()
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin/python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    """A shell's, in which ``python`` is the one that runs the tests."""
    return {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}


def run(command: str, folder: Path) -> str:
    """Type ``command`` in ``folder``; returns what it printed."""
    answer = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert answer.returncode == 0, f"{command}\n{answer.stdout[-2000:]}\n{answer.stderr[-2000:]}"
    return answer.stdout


@contextlib.contextmanager
def service(command: str, folder: Path, port: int):
    """``command`` runs beside the block, from when /health answers; afterwards it is ended, and ends well."""
    with (folder / "service.txt").open("w") as said:
        process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=folder, env=environment(folder), stdout=said, stderr=said
        )
        try:
            for _ in range(300):
                with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                    break
                assert process.poll() is None, (folder / "service.txt").read_text()
                time.sleep(0.2)
            yield
        finally:
            process.terminate()
            status = process.wait(30)
    assert status == 0, (folder / "service.txt").read_text()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_the_readme_commands_run_as_typed(workplace):
    typed = [command for command in commands(READMES[0]) if tool_call(command) or command.startswith("curl ")]
    typed.sort(key=lambda command: "make_lite_data" not in command)  # the others need data
    assert {tool_call(command)[0] for command in typed if tool_call(command)} == set(SCALE)
    port = free_port()
    with contextlib.ExitStack() as services:
        for command in typed:
            name = (tool_call(command) or [None])[0]
            command = f"{command} {SCALE.get(name, '')}".replace("18080", str(port))
            if name == SERVICE:
                services.enter_context(service(command, workplace, port))
                continue
            shown = run(command, workplace)
            assert "Healthy" in shown or not command.startswith("curl ")
            if name == "tools/make_lite_data.py":
                for domain in (workplace / "data/lite_data").iterdir():
                    (workplace / "data" / domain.name).symlink_to(domain)
    for name in LEFT_BEHIND:
        assert (workplace / name).is_file(), name
    assert len(list((workplace / "data/generations_r50_msmt17").glob("*.jpg"))) == 8 * 4
    served, local = (np.load(workplace / f"logs/{name}.npz") for name in ("served", "query_embeddings"))
    np.testing.assert_allclose(served["embeddings"], local["embeddings"], rtol=1e-3, atol=1e-3)
    shown = run(f"python -c {shlex.quote(blocks(READMES[0], 'python')[0])}", workplace)
    assert shown.split() == ["(8,", "512)", "16"]
