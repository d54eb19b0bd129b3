r"""Embeddings of images through an exported model, and the nearest images of a gallery.

Example: python deploy/inference_python/infer.py --model-dir ./inference --img-path ./data/market/query \
    --gallery ./data/market/bounding_box_test --top-k 5 --output embeddings.npz
"""

import argparse

import _path  # noqa: F401

from ppcls.configs.inference import InferOptions
from ppcls.configs.options import add_flags, resolve
from ppcls.utils.command import EXIT_OK, EXIT_PROBLEMS, run


def make_parser() -> argparse.ArgumentParser:
    return add_flags(argparse.ArgumentParser(description=__doc__.splitlines()[0]), InferOptions)


def main(args: argparse.Namespace) -> int:
    options = resolve(InferOptions, args)
    from ppcls.engine.inference_job import infer

    return EXIT_PROBLEMS if infer(options).failures else EXIT_OK


if __name__ == "__main__":
    run(make_parser, main, uses_paddle=False)
