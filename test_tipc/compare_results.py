"""Compare results with a ground truth: exit status 0 if they agree, 1 if they differ, 2 if there is nothing to compare.

Example: python test_tipc/compare_results.py --gt_file=./test_tipc/results/python_AGD_embeddings_fp32.txt \
    --log_file=./test_tipc/output/AGD/lite_train_lite_infer/reference_*.jsonl --atol=1e-3 --rtol=1e-3
"""

import argparse
from pathlib import Path

import _path  # noqa: F401

from ppcls.utils.command import EXIT_OK, EXIT_PROBLEMS, run

_SHOWN = 10


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gt_file", required=True, help="ground truth, or a pattern with * (one file a precision)")
    parser.add_argument("--log_file", required=True, help="results of a command, or a pattern with *")
    parser.add_argument("--atol", type=float, default=1e-3, help="absolute tolerance (default: 1e-3)")
    parser.add_argument("--rtol", type=float, default=1e-3, help="relative tolerance (default: 1e-3)")
    parser.add_argument("--cosine", type=float, default=0.9999, help="least cosine of embeddings (default: 0.9999)")
    parser.add_argument(
        "--precision",
        default="fp32",
        choices=("fp32", "fp16", "int8"),
        help="of results whose file names do not say it (default: fp32)",
    )
    parser.add_argument("--write_gt", action="store_true", help="write --gt_file from the one file of --log_file")
    return parser


def main(args: argparse.Namespace) -> int:
    from test_tipc.runner.compare import Tolerance, compare_files, read_results, write_ground_truth

    if args.write_gt:
        write_ground_truth(Path(args.gt_file), read_results(Path(args.log_file)))
        print(f"wrote {args.gt_file}")
        return EXIT_OK
    verdicts = compare_files(args.gt_file, args.log_file, Tolerance(args.atol, args.rtol, args.cosine), args.precision)
    for verdict in verdicts:
        for line in verdict.differences[:_SHOWN]:
            print(line)
        if len(verdict.differences) > _SHOWN:
            print(f"… {len(verdict.differences) - _SHOWN} more")
        outcome, word = ("failed", "are not") if verdict.differences else ("passed", "are")
        print(
            f"Assert allclose {outcome}! The results of {verdict.log} and {verdict.ground_truth} {word} consistent "
            f"({verdict.compared} compared)"
        )
    return EXIT_PROBLEMS if any(verdict.differences for verdict in verdicts) else EXIT_OK


if __name__ == "__main__":
    run(make_parser, main, uses_paddle=False)
