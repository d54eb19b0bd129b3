"""Make lite data: small synthetic re-identification data sets to try every command with."""

import argparse
from pathlib import Path

import _path  # noqa: F401

from ppcls.data.lite import DEFAULT_DOMAINS, DOMAINS, make_lite_data, pack_lite_data
from ppcls.utils.command import run


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Write deterministic synthetic pedestrians as JPEG files in the Market-1501 layout.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    place = parser.add_argument_group("where")
    place.add_argument("--out", type=Path, default=Path("data/lite_data"), help="data root to write to")
    place.add_argument("--force", action="store_true", help="rewrite lite data of other parameters")
    place.add_argument(
        "--tar", type=Path, metavar="FILE", help="pack the domains into one file too; unpack it with tar -xf"
    )
    what = parser.add_argument_group("what")
    what.add_argument(
        "--domains", nargs="+", default=list(DEFAULT_DOMAINS), metavar="NAME", help=f"some of {', '.join(DOMAINS)}"
    )
    what.add_argument("--ids", type=int, default=48, help="people in the training split")
    what.add_argument("--test-ids", type=int, default=32, help="other people, in query and gallery")
    what.add_argument("--cams", type=int, default=4, help="cameras; every person passes all of them")
    what.add_argument("--images-per-cam", type=int, default=3, help="pictures of a person at a camera")
    what.add_argument("--height", type=int, default=128, help="of the pictures, in pixels")
    what.add_argument("--width", type=int, default=64, help="of the pictures, in pixels")
    what.add_argument("--seed", type=int, default=0, help="the same flags give byte-identical files")
    return parser


def main(args: argparse.Namespace) -> None:
    folders = make_lite_data(
        args.out,
        args.domains,
        ids=args.ids,
        test_ids=args.test_ids,
        cams=args.cams,
        images_per_cam=args.images_per_cam,
        height=args.height,
        width=args.width,
        seed=args.seed,
        force=args.force,
    )
    if args.tar:
        pack_lite_data(args.tar, args.out.name or "lite_data", folders)


if __name__ == "__main__":
    run(make_parser, main, uses_paddle=False)
