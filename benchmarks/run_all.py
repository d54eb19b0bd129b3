"""All comparisons, one after the other: figures into a JSON file, a Markdown summary to standard output.

Each comparison's own table goes to standard error as soon as it is there. About fifteen minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks import _table, ranking
from benchmarks._measure import HERE, add_flags, settings_of
from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_write_json

SPEED = ("gemm", "training", "inversion")


def run(name: str, flags: list[str]) -> tuple[int, dict]:
    """Exit status and figures (none after a failure) of one comparison."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        argv = [sys.executable, str(HERE / f"{name}.py"), *flags, "--json", str(path)]
        status = subprocess.run(argv, stdout=sys.stderr.fileno(), check=False).returncode
        return status, json.loads(path.read_text()) if path.exists() else {}


def summary(figures: dict[str, dict]) -> str:
    """All tables as Markdown."""
    parts = []
    for name in SPEED:
        for task, result in figures[name].items():
            if not parts:
                parts.append(_table.machine(result["machine"], result["job"]["threads"]) + ".")
            parts.append((_table.gemm_markdown if task == "gemm" else _table.markdown)(result))
    if figures["ranking"]:
        parts.append("**evaluation at the size of Market-1501**\n\n" + ranking.markdown(figures["ranking"]))
    return "\n\n".join(part.strip() for part in parts)


def main() -> int:
    """Run everything even if one part fails; the status is the worst one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser)
    parser.add_argument("--output", default=str(HERE / "results.json"), metavar="PATH", help="default: %(default)s")
    args = parser.parse_args()
    try:
        settings = settings_of(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    shared = ["--repeat", str(settings.repeat), *(["--small"] if settings.small else [])]
    speed = ["--threads", str(settings.threads), "--batch", str(settings.batch), "--steps", str(settings.steps)]
    peer = ["--torch-python", args.torch_python] if args.torch_python else []
    ran = {name: run(name, [*shared, *speed, *peer]) for name in SPEED} | {"ranking": run("ranking", shared)}
    figures = {name: found for name, (_, found) in ran.items()}
    atomic_write_json(args.output, figures)
    print(summary(figures))
    return max(status for status, _ in ran.values())


if __name__ == "__main__":
    sys.exit(main())
