"""Every main method on synthetic data over several seeds: docs/lite_benchmark.md, with mean and standard deviation."""

import argparse
import platform
from pathlib import Path

import _path  # noqa: F401

from ppcls.utils.command import run
from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_write_text
from ppcls.utils.logger import get_logger
from ppcls.utils.tuning import usable_cores


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="lite_benchmark_output", help="folder of all runs (default: %(default)s)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="default: 1 2 3")
    parser.add_argument("--docs", default="docs", help="where the page and its pictures go (default: %(default)s)")
    parser.add_argument(
        "--small", action="store_true", help="seconds instead of an hour: checks the chain, learns nothing"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    from ppcls.engine import comparison, comparison_report, lite_settings

    if len(set(args.seeds)) != len(args.seeds):
        raise UserError(f"--seeds {' '.join(map(str, args.seeds))}: give each seed once")
    settings = lite_settings.small_settings() if args.small else lite_settings.benchmark_settings()
    folder, methods = Path(args.out), list(comparison.METHODS)
    runner = comparison.Runner(folder, usable_cores())
    runner.run(comparison.plan(folder, settings, methods, args.seeds))
    found = comparison.results(folder, methods, args.seeds)
    pictures = comparison_report.write(folder / "report", found, settings.first, settings.second, args.seeds)
    comparison_report.gather_pictures(pictures, folder / f"seed{args.seeds[0]}", ["task1", "AD"])
    seconds = sum(runner.seconds(stage) for stage in comparison.plan(folder, settings, methods, args.seeds))
    page = comparison_report.page(found, settings, args.seeds, f"{platform.machine()}, {usable_cores()} cores", seconds)
    atomic_write_text(Path(args.docs) / "lite_benchmark.md", page)
    comparison_report.publish(pictures, Path(args.docs) / "images")
    get_logger().info("\n%s", comparison_report.table(found, settings.first, settings.second))
    get_logger().info("%s", (Path(args.docs) / "lite_benchmark.md").resolve())


if __name__ == "__main__":
    run(make_parser, main, uses_paddle=False)
