"""The lower bound: fine-tune a previous network on new data alone, and forget.

Example: python tools/main_finetune.py -g 0 --dataset market --previous ./logs/msmt17 --logs-dir ./logs/msmt17-market_FT
"""

import argparse

import _path  # noqa: F401

from ppcls.configs.options import add_flags, resolve
from ppcls.configs.schema import FinetuneOptions
from ppcls.utils.command import run


def make_parser() -> argparse.ArgumentParser:
    return add_flags(argparse.ArgumentParser(description=__doc__.splitlines()[0]), FinetuneOptions)


def main(args: argparse.Namespace) -> None:
    options = resolve(FinetuneOptions, args)
    from ppcls.engine.jobs import finetune

    finetune(options)


if __name__ == "__main__":
    run(make_parser, main)
