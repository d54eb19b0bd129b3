r"""Augmented distillation (AD): learn a new data set from several views, keep the old one by dreamed images.

Example: python tools/main_incrementalX.py -g 0 --dataset market --previous ./logs/msmt17 \
    --logs-dir ./logs/msmt17-market_XsimGD
--inversion-dir ./data/generations_r50_msmt17 --peers 2 --algo-config ./ppcls/configs/inverXion.yaml
"""

import argparse

import _path  # noqa: F401

from ppcls.configs.options import add_flags, resolve
from ppcls.configs.schema import AugmentedOptions
from ppcls.utils.command import run


def make_parser() -> argparse.ArgumentParser:
    return add_flags(argparse.ArgumentParser(description=__doc__.splitlines()[0]), AugmentedOptions)


def main(args: argparse.Namespace) -> None:
    options = resolve(AugmentedOptions, args)
    from ppcls.engine.jobs import increment

    increment(options, allowed=("augmented",))


if __name__ == "__main__":
    run(make_parser, main)
