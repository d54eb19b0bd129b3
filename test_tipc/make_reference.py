"""Write a checkpoint of a network with seeded weights: the same numbers on every machine, without any training.

Example: python test_tipc/make_reference.py --out test_tipc/output/reference
"""

import argparse
from pathlib import Path

import _path  # noqa: F401

from ppcls.utils.command import run


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder that gets checkpoint.pdparams")
    parser.add_argument("--depth", type=int, default=18, help="of the ResNet (default: 18)")
    parser.add_argument("--height", type=int, default=128, help="input height (default: 128)")
    parser.add_argument("--width", type=int, default=64, help="input width (default: 64)")
    parser.add_argument("--seed", type=int, default=1, help="of the weights (default: 1)")
    return parser


def main(args: argparse.Namespace) -> None:
    from test_tipc.runner.reference import write_reference

    print(write_reference(args.out, args.depth, args.height, args.width, args.seed))


if __name__ == "__main__":
    run(make_parser, main)
