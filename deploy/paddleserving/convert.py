"""Exported model → serving_server/ and serving_client/ for Paddle Serving.

Example: python deploy/paddleserving/convert.py --dirname inference --model-filename inference.pdmodel \
    --params-filename inference.pdiparams --serving-server serving_server --serving-client serving_client
"""

import argparse

import _path  # noqa: F401

from ppcls.configs.options import add_flags, resolve
from ppcls.configs.paddle_serving import ConvertOptions
from ppcls.utils.command import run


def make_parser() -> argparse.ArgumentParser:
    return add_flags(argparse.ArgumentParser(description=__doc__.splitlines()[0]), ConvertOptions)


def main(args: argparse.Namespace) -> None:
    options = resolve(ConvertOptions, args)
    from ppcls.export.serving import convert_for_serving

    convert_for_serving(options)
    if not options.show_proto:
        print(f"server: {options.serving_server}, client: {options.serving_client}")


if __name__ == "__main__":
    run(make_parser, main, uses_paddle=False)
