"""A look at one network: its accuracy on dreamed images, embeddings of files, their nearest neighbours."""

from __future__ import annotations

from ppcls.configs.evaluation import QuickOptions
from ppcls.engine.checkpoint import Checkpoint, load_stored
from ppcls.engine.device import select_device
from ppcls.engine.figures import rank_list
from ppcls.inversion import measure_quality
from ppcls.retrieval import FeatureExtractor, Matches, find_images, save_embeddings, search
from ppcls.utils.logger import get_logger

_SHOWN = 20


def look(options: QuickOptions) -> None:
    """Do what ``options`` asks for and print it.

    Raises:
        UserError: no checkpoint, no images, an unreadable image.
    """
    select_device(options.gpu)
    loaded = load_stored(options.previous, options)
    height = options.height or loaded.arch["height"] or 256
    width = options.width or loaded.arch["width"] or 128
    if options.inversion_dir:
        _dreamed_accuracy(options, loaded, height, width)
    if options.images:
        extractor = FeatureExtractor(loaded.net, height, width, flip=options.flip, batch_size=options.batch_size)
        _embed(options, extractor)


def _dreamed_accuracy(options: QuickOptions, loaded: Checkpoint, height: int, width: int) -> None:
    loaded.net.eval()
    quality = measure_quality(loaded.net, options.inversion_dir, height, width, options.batch_size)
    get_logger().info(
        "%d dreamed images of %d ids: accuracy %.1f%%, mean confidence %.3f, cross-entropy %.3f",
        quality["images"],
        quality["classes"],
        100 * quality["accuracy"],
        quality["confidence"],
        quality["ce"],
    )


def _embed(options: QuickOptions, extractor: FeatureExtractor) -> None:
    paths = find_images(options.images)
    features = extractor.of_paths(paths)
    matches = None
    if options.gallery:
        gallery = find_images(options.gallery)
        matches = search(extractor, paths, gallery, options.top_k, options.metric, features)
        _print(matches)
        if options.picture:
            _picture(options.picture, matches)
    save_embeddings(options.output, paths, features, matches)
    get_logger().info("%d embeddings of size %d in %s", *features.shape, options.output)


def _print(matches: Matches) -> None:
    logger = get_logger()
    for query, indices, distances in zip(matches.queries[:_SHOWN], matches.index, matches.distance, strict=False):
        logger.info("%s", query)
        for place, (index, distance) in enumerate(zip(indices, distances, strict=True), 1):
            logger.info("  %2d  %.4f  %s", place, distance, matches.gallery[index])
    if len(matches.queries) > _SHOWN:
        logger.info("… and %d more images; all are in the output file", len(matches.queries) - _SHOWN)


def _picture(path: str, matches: Matches) -> None:
    rows = matches.queries[:_SHOWN]
    found = [[matches.gallery[index] for index in row] for row in matches.index[:_SHOWN]]
    rank_list(rows, found, None, path)
    get_logger().info("picture in %s", path)
