r"""Lifelong learning: a stream of data sets, learned one after the other, with a report of what was forgotten.

Example: python tools/lifelong.py -g 0 --tasks msmt17 market duke --algo-config inverXion --logs-dir ./logs/stream
The same command goes on where a stopped stream was.
"""

import argparse

import _path  # noqa: F401

from ppcls.configs.lifelong import LifelongOptions
from ppcls.configs.options import add_flags, resolve
from ppcls.utils.command import run


def make_parser() -> argparse.ArgumentParser:
    return add_flags(argparse.ArgumentParser(description=__doc__.splitlines()[0]), LifelongOptions)


def main(args: argparse.Namespace) -> None:
    options = resolve(LifelongOptions, args)
    from ppcls.engine.stream import run_stream, show_plan

    if options.dry_run:
        print(show_plan(options))
        return
    print(run_stream(options).folder)


if __name__ == "__main__":
    run(make_parser, main)
