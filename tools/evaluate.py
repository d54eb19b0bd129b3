r"""Retrieval accuracy (mAP, CMC) of one or more checkpoints on one or more data sets.

Example: python tools/evaluate.py --dataset msmt17 market \
    --ckpt ./logs/msmt17-market_XsimGD/checkpoint.pdparams --output
"""

import argparse

import _path  # noqa: F401

from ppcls.configs.evaluation import EvaluateOptions
from ppcls.configs.options import add_flags, resolve
from ppcls.utils.command import run


def make_parser() -> argparse.ArgumentParser:
    return add_flags(argparse.ArgumentParser(description=__doc__.splitlines()[0]), EvaluateOptions)


def main(args: argparse.Namespace) -> None:
    options = resolve(EvaluateOptions, args)
    from ppcls.engine.evaluation_job import evaluate_checkpoints

    evaluate_checkpoints(options)


if __name__ == "__main__":
    run(make_parser, main)
