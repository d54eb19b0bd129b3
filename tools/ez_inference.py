r"""A network's accuracy on dreamed images; embeddings and nearest gallery images of any picture.

Examples:
python tools/ez_inference.py --previous ./logs/msmt17 --inversion-dir ./data/generations_r50_msmt17
python tools/ez_inference.py --previous ./logs/msmt17 --images ./data/market/query \
    --gallery ./data/market/bounding_box_test --top-k 5 --output embeddings.npz
"""

import argparse

import _path  # noqa: F401

from ppcls.configs.evaluation import QuickOptions
from ppcls.configs.options import add_flags, resolve
from ppcls.utils.command import run


def make_parser() -> argparse.ArgumentParser:
    return add_flags(argparse.ArgumentParser(description=__doc__.splitlines()[0]), QuickOptions)


def main(args: argparse.Namespace) -> None:
    options = resolve(QuickOptions, args)
    from ppcls.engine.quick_job import look

    look(options)


if __name__ == "__main__":
    run(make_parser, main)
