"""The main job in a few minutes: learn a domain, dream it, learn another, see what was forgotten, export, search."""

import argparse
import shutil
from pathlib import Path

import _path  # noqa: F401

from ppcls.utils.command import run
from ppcls.utils.logger import get_logger
from ppcls.utils.tuning import usable_cores

METHODS = ("finetune", "sim-res (GD)", "AD")
PICTURED = ("task1", "finetune", "AD")
DEPLOYED = "AD"


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="demo_output", help="folder of everything (default: demo_output)")
    parser.add_argument("--seed", type=int, default=1, help="of data order, dreams and new classes (default: 1)")
    parser.add_argument(
        "--small", action="store_true", help="seconds instead of minutes: checks the chain, learns nothing"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    from ppcls.engine import comparison, comparison_report
    from ppcls.engine.lite_settings import demo_settings, small_settings

    folder = Path(args.out)
    settings = small_settings() if args.small else demo_settings()
    get_logger().info("all files go to %s; an interrupted demo goes on when it is started again", folder)
    stages = comparison.plan(folder, settings, METHODS, [args.seed])
    stages += comparison.deployment(folder, settings, DEPLOYED, args.seed)
    comparison.Runner(folder, usable_cores()).run(stages)
    found = comparison.results(folder, METHODS, [args.seed])
    shown = comparison_report.write(folder / "report", found, settings.first, settings.second, [args.seed])
    comparison_report.gather_pictures(shown, folder / f"seed{args.seed}", PICTURED)
    get_logger().info(
        "\nmAP and R1 in %%; '%s' is the old domain, whose images task 2 never saw\n\n%s",
        settings.first,
        comparison_report.table(found, settings.first, settings.second),
    )
    matches = folder / f"seed{args.seed}" / "matches.png"
    shutil.copyfile(matches, shown / matches.name)
    get_logger().info("the exported '%s' network and its answers: %s", DEPLOYED, matches.parent / "inference")
    get_logger().info("%s", shown.resolve())


if __name__ == "__main__":
    run(make_parser, main, uses_paddle=False)
