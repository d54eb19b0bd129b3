"""Check data sets before training: counts, batch shapes, lone queries, broken files, leaks, duplicates."""

import argparse

import _path  # noqa: F401  (puts the repository on sys.path)

from ppcls.data.check import CheckReport, check_dataset
from ppcls.data.dataset import SPLITS, open_dataset
from ppcls.utils.command import EXIT_OK, EXIT_PROBLEMS, run
from ppcls.utils.files import atomic_write_json

SHOWN = 10


def make_parser() -> argparse.ArgumentParser:
    """Flags of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="Exit status: 0 nothing to mend, 1 problems were found, 2 wrong usage or no such data set.",
    )
    parser.add_argument("--dataset", nargs="+", required=True, metavar="NAME",
                        help="market, msmt17, duke, cuhk03, folder:PATH, csv:PATH, a+b, aUb")  # fmt: skip
    parser.add_argument("--data-root", default="data", help="folder of the data sets (default: %(default)s)")
    parser.add_argument("--splits", nargs="+", default=list(SPLITS), choices=SPLITS, help="default: all")
    parser.add_argument("-b", "--batch-size", nargs="+", type=int, default=[64], metavar="N",
                        help="batch sizes that training is to use (default: 64)")  # fmt: skip
    parser.add_argument("--instances", nargs="+", type=int, default=[4], metavar="K",
                        help="images per person in a batch (default: 4)")  # fmt: skip
    parser.add_argument("-j", "--workers", type=int, default=2, help="decoding threads (default: 2)")
    parser.add_argument("--json", metavar="FILE", help="write the whole report there")
    return parser


def show(report: CheckReport) -> None:
    """Print what was found, at most `SHOWN` items of each problem."""
    for shape in report.shapes:
        verdict = "fits" if shape.fits else "DOES NOT FIT"
        print(f"batch {shape.batch_size} = {shape.persons} persons x {shape.instances} images: {verdict}")
    for note in report.notes:
        print(f"note: {note}")
    for problem in report.problems:
        print(f"PROBLEM: {len(problem.items)} {problem.message}")
        for item in problem.items[:SHOWN]:
            print(f"  {item}")
        if len(problem.items) > SHOWN:
            print(f"  ... and {len(problem.items) - SHOWN} more (all of them with --json FILE)")
    verdict = "nothing to mend" if report.clean else f"{len(report.problems)} kind(s) of problem"
    print(f"{report.name}: {verdict}")


def main(args: argparse.Namespace) -> int:
    """Check each data set; the status says whether all of them are clean."""
    reports = []
    for name in args.dataset:
        data = open_dataset(name, args.data_root, args.splits)
        print(data.banner(), flush=True)
        reports.append(check_dataset(data, args.batch_size, args.instances, args.workers, progress=True))
        show(reports[-1])
    if args.json:
        atomic_write_json(args.json, {"datasets": [report.as_dict() for report in reports]})
    return EXIT_OK if all(report.clean for report in reports) else EXIT_PROBLEMS


if __name__ == "__main__":
    run(make_parser, main, uses_paddle=False)
