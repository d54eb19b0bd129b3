r"""Export a trained network as an inference model (Paddle and ONNX) that is checked against it.

Example: python tools/export_model.py --ckpt ./logs/msmt17-market_XsimGD \
    --save-inference-dir ./inference --dataset market --onnx

Exit status: 0 done, 1 the exported model does not answer as the network, 2 a wrong option or file.
"""

import argparse
import sys

import _path  # noqa: F401

from ppcls.configs.export import ExportOptions
from ppcls.configs.options import add_flags, resolve
from ppcls.utils.command import EXIT_PROBLEMS, run


def make_parser() -> argparse.ArgumentParser:
    return add_flags(argparse.ArgumentParser(description=__doc__.splitlines()[0]), ExportOptions)


def main(args: argparse.Namespace) -> int | None:
    options = resolve(ExportOptions, args)
    from ppcls.export import ParityError, export_model

    try:
        export_model(options)
    except ParityError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_PROBLEMS
    return None


if __name__ == "__main__":
    run(make_parser, main)
