r"""DeepInversion: dream training images out of a trained network, in place of data that had to be deleted.

Example: python tools/inversion.py -g 0 --generation-dir ./data/generations_r50_msmt17 --shots 40 --iters 640 \
    --teacher ./logs/msmt17
"""

import argparse

import _path  # noqa: F401

from ppcls.configs.options import add_flags, resolve
from ppcls.configs.schema import InversionOptions
from ppcls.utils.command import run


def make_parser() -> argparse.ArgumentParser:
    return add_flags(argparse.ArgumentParser(description=__doc__.splitlines()[0]), InversionOptions)


def main(args: argparse.Namespace) -> None:
    options = resolve(InversionOptions, args)
    from ppcls.engine.inversion_job import invert

    invert(options)


if __name__ == "__main__":
    run(make_parser, main)
