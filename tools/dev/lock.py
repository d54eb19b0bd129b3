"""Write constraints.txt: the exact version of every package that the direct pins pull in, for each Python version.

    python tools/dev/lock.py python3.10 python3.11 python3.12

Builds a throw-away environment per interpreter from the requirement files with no constraints, tries it
(``smoke.py``), freezes it, and merges the freezes with environment markers. Run it after changing a direct pin.
Packages that have a direct pin are left out: pip reports a missing package that is both required and constrained
as a "conflict", which sends the reader the wrong way.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = ("requirements.txt", "requirements-serving.txt", "requirements-dev.txt")
HEADER = """\
# Written by tools/dev/lock.py: what the pins of requirements.txt, -serving.txt and -dev.txt pull in, as frozen in a
# fresh environment on Python {versions}. Change the direct pins there, then run the tool again.
"""


def direct_pins(root: Path = ROOT) -> str:
    """The requirement lines of all files, without the references to other files."""
    lines = [line for name in FILES for line in (root / name).read_text(encoding="utf-8").splitlines()]
    return "\n".join(line for line in lines if line and not line.startswith(("#", "-"))) + "\n"


def normal(name: str) -> str:
    """A package name the way indexes compare it: ``PyYAML`` and ``pyyaml``, ``a_b`` and ``a-b`` are one."""
    return re.sub(r"[-_.]+", "-", name).lower()


def freeze(interpreter: str, pins: str) -> tuple[str, dict[str, str]]:
    """Install the pins into a fresh environment; return ("3.11", {package: version})."""
    with tempfile.TemporaryDirectory(prefix="lock-") as folder:
        wanted = Path(folder, "pins.txt")
        wanted.write_text(pins, encoding="utf-8")
        subprocess.run([interpreter, "-m", "venv", f"{folder}/venv"], check=True)
        python = f"{folder}/venv/bin/python"
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(wanted)]
        subprocess.run(install, check=True)
        subprocess.run([python, str(ROOT / "tools/dev/smoke.py")], check=True)
        version = subprocess.run(
            [python, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        listed = subprocess.run([python, "-m", "pip", "freeze"], check=True, capture_output=True, text=True).stdout
    direct = {normal(line.split("==")[0]) for line in pins.splitlines()}
    found = (re.match(r"^([A-Za-z0-9._-]+)==(\S+)", line) for line in listed.splitlines())
    return version, {match[1]: match[2] for match in found if match and normal(match[1]) not in direct}


def merge(frozen: dict[str, dict[str, str]]) -> list[str]:
    """One line per package and version, with a marker where the Python versions differ.

    ``frozen`` maps "3.10" → {package: version}.
    """
    lines = []
    for name in sorted({name for packages in frozen.values() for name in packages}, key=str.lower):
        pythons_of: dict[str, list[str]] = {}
        for python, packages in frozen.items():
            if name in packages:
                pythons_of.setdefault(packages[name], []).append(python)
        for version, pythons in pythons_of.items():
            marker = " or ".join(f'python_version == "{python}"' for python in pythons)
            lines.append(f"{name}=={version}" + ("" if len(pythons) == len(frozen) else f" ; {marker}"))
    return lines


def main(argv: list[str] | None = None) -> int:
    """Freeze with each interpreter and write constraints.txt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("interpreters", nargs="+", help="one Python interpreter per supported version")
    parser.add_argument("--output", type=Path, default=ROOT / "constraints.txt")
    options = parser.parse_args(argv)
    pins = direct_pins()
    frozen = dict(freeze(interpreter, pins) for interpreter in options.interpreters)
    text = HEADER.format(versions=", ".join(frozen)) + "\n".join(merge(frozen)) + "\n"
    options.output.write_text(text, encoding="utf-8")
    print(f"{options.output}: {len(text.splitlines()) - HEADER.count(chr(10))} lines for Python {', '.join(frozen)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
