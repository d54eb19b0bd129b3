"""All comparisons, one after the other: figures into a JSON file, a Markdown summary to standard output.

Each comparison's own table goes to standard error as soon as it is there. About an hour on two quiet cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks import _serving_table, _table, aligned, inference, ranking, reranking
from benchmarks._measure import HERE, Settings, add_flags, settings_of
from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_write_json

SPEED = ("gemm", "training", "inversion")
RETRIEVAL = {"ranking": ranking.markdown, "reranking": reranking.markdown, "aligned": aligned.markdown}
TITLES = {
    "ranking": "evaluation at the size of Market-1501",
    "reranking": "re-ranking at the size of Market-1501",
    "aligned": "AlignedReID++'s local distance at the size of Market-1501",
}
PARTS = (*SPEED, *RETRIEVAL, "inference", "serving")


def run(name: str, flags: list[str]) -> tuple[int, dict]:
    """Exit status and figures (none after a failure) of one comparison."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figures.json"
        argv = [sys.executable, str(HERE / f"{name}.py"), *flags, "--json", str(path)]
        status = subprocess.run(argv, stdout=sys.stderr.fileno(), check=False).returncode
        return status, json.loads(path.read_text()) if path.exists() else {}


def flags_of(name: str, settings: Settings, args: argparse.Namespace) -> list[str]:
    """What is handed on to one comparison."""
    flags = ["--repeat", str(settings.repeat), *(["--small"] if settings.small else [])]
    flags += ["--threads", str(settings.threads)]
    if name in RETRIEVAL:
        return flags
    if name == "serving":
        return [*flags, "--soak", str(args.soak)]
    peer = ["--torch-python", args.torch_python] if args.torch_python else []
    return [*flags, "--batch", str(settings.batch), "--steps", str(settings.steps), *peer]


def summary(figures: dict[str, dict]) -> str:
    """All tables as Markdown."""
    parts = []
    for name in SPEED:
        for task, result in figures.get(name, {}).items():
            if not parts:
                parts.append(_table.machine(result["machine"], result["job"]["threads"]) + ".")
            parts.append((_table.gemm_markdown if task == "gemm" else _table.markdown)(result))
    for name, markdown in RETRIEVAL.items():
        if figures.get(name):
            parts.append(f"**{TITLES[name]}**\n\n{markdown(figures[name])}")
    for name, markdown in (("inference", inference.markdown), ("serving", _serving_table.markdown)):
        if figures.get(name):
            parts.append(markdown(figures[name]))
    return "\n\n".join(part.strip() for part in parts)


def main() -> int:
    """Run everything even if one part fails; the status is the worst one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser)
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=f"of {', '.join(PARTS)}"
    )
    parser.add_argument("--soak", type=float, default=300.0, metavar="SECONDS", help="of the service (default: 300)")
    parser.add_argument("--output", default=str(HERE / "results.json"), metavar="PATH", help="default: %(default)s")
    args = parser.parse_args()
    try:
        settings = settings_of(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    ran = {name: run(name, flags_of(name, settings, args)) for name in PARTS if name in args.only}
    figures = {name: found for name, (_, found) in ran.items()}
    atomic_write_json(args.output, figures)
    print(summary(figures))
    return max(status for status, _ in ran.values())


if __name__ == "__main__":
    sys.exit(main())
