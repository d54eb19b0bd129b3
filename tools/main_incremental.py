r"""Learn a new data set and keep the old one by dreamed images: GD and every algorithm of ppcls/configs.

Example: python tools/main_incremental.py -g 0 --dataset market --previous ./logs/msmt17 \
    --logs-dir ./logs/msmt17-market_GD
--inversion-dir ./data/generations_r50_msmt17 --algo-config ./ppcls/configs/res-triangle.yaml
"""

import argparse

import _path  # noqa: F401

from ppcls.configs.options import add_flags, resolve
from ppcls.configs.schema import IncrementalOptions
from ppcls.utils.command import run


def make_parser() -> argparse.ArgumentParser:
    return add_flags(argparse.ArgumentParser(description=__doc__.splitlines()[0]), IncrementalOptions)


def main(args: argparse.Namespace) -> None:
    options = resolve(IncrementalOptions, args)
    from ppcls.engine.jobs import increment

    increment(options)


if __name__ == "__main__":
    run(make_parser, main)
