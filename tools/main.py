"""Task 1: train a re-identification network on the first data set.

Example: python tools/main.py -g 0 --dataset msmt17 --logs-dir ./logs/msmt17
"""

import argparse

import _path  # noqa: F401

from ppcls.configs.options import add_flags, resolve
from ppcls.configs.schema import TrainOptions
from ppcls.utils.command import run


def make_parser() -> argparse.ArgumentParser:
    return add_flags(argparse.ArgumentParser(description=__doc__.splitlines()[0]), TrainOptions)


def main(args: argparse.Namespace) -> None:
    options = resolve(TrainOptions, args)
    from ppcls.engine.jobs import train

    train(options)


if __name__ == "__main__":
    run(make_parser, main)
