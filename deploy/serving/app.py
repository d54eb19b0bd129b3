"""An exported model as an HTTP service: the Paddle Serving pipeline protocol and PaddleX-style routes.

Example: python deploy/serving/app.py --model-dir inference --port 18080
"""

import argparse

import _path  # noqa: F401

from ppcls.configs.options import add_flags, resolve
from ppcls.configs.serving import ServeOptions
from ppcls.utils.command import run


def make_parser() -> argparse.ArgumentParser:
    return add_flags(argparse.ArgumentParser(description=__doc__.splitlines()[0]), ServeOptions)


def main(args: argparse.Namespace) -> int:
    options = resolve(ServeOptions, args)
    from ppcls.serving import run_server

    return run_server(options)


if __name__ == "__main__":
    run(make_parser, main, uses_paddle=False)
