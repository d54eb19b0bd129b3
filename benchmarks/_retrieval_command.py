"""The command line that the retrieval comparisons share.

Apart from ``_retrieval``, which torchreid's interpreter imports too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping

from benchmarks import _retrieval, _torchreid_side
from ppcls.utils.files import atomic_write_json


def report(found: object, lines: str, agree: bool, path: str | None) -> int:
    """Print a comparison's table and write its figures; the exit status: 1 when the sides disagree."""
    print(lines)
    if path:
        atomic_write_json(path, found)
    if not agree:
        print("error: the sides disagree", file=sys.stderr)
    return 0 if agree else 1


def main_with_torchreid(
    about: str,
    workers: Mapping[str, Callable[[dict], dict]],
    compare: Callable[[str, int, int, str | None], dict],
    text: Callable[[Mapping], str],
    agree: Callable[[Mapping], bool],
) -> int:
    """The command of a comparison that torchreid may take part in: flags, one table, an exit status."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    _retrieval.add_flags(parser)
    _retrieval.add_torchreid_flag(parser)
    parser.add_argument("--size", choices=("market", "msmt17"), default="market", help="default: %(default)s")
    args = parser.parse_args()
    if args.worker:
        return _retrieval.work(args.worker, workers)
    name = "small" if args.small else args.size
    try:
        torchreid_python = _torchreid_side.find(args.torchreid_python)
    except LookupError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("{queries} queries x {gallery} gallery images x {size}".format(**_retrieval.SIZES[name]))
    found = compare(name, 1 if args.small else args.repeat, args.threads, torchreid_python)
    return report(found, text(found), agree(found), args.json)
