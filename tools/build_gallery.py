r"""Make a persistent gallery of embeddings, add images to it, remove some, list it.

Examples:
python tools/build_gallery.py --model-dir ./inference --img-path ./data/market/bounding_box_test --gallery ./gallery
python tools/build_gallery.py --operation remove --gallery ./gallery --remove-labels 2
"""

import argparse

import _path  # noqa: F401

from ppcls.configs.inference import GalleryOptions
from ppcls.configs.options import add_flags, resolve
from ppcls.utils.command import EXIT_OK, EXIT_PROBLEMS, run


def make_parser() -> argparse.ArgumentParser:
    return add_flags(argparse.ArgumentParser(description=__doc__.splitlines()[0]), GalleryOptions)


def main(args: argparse.Namespace) -> int:
    options = resolve(GalleryOptions, args)
    from ppcls.engine.gallery_job import change_gallery

    return EXIT_PROBLEMS if change_gallery(options).failures else EXIT_OK


if __name__ == "__main__":
    run(make_parser, main, uses_paddle=False)
