"""Building and changing a persistent gallery from image files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ppcls.configs.inference import GalleryOptions
from ppcls.data.dataset.market import parse_name
from ppcls.engine.predicting import embedded_batches, requested_predictor
from ppcls.retrieval import find_images
from ppcls.retrieval.gallery import Gallery, model_digest
from ppcls.retrieval.image_list import is_image_list, read_image_list
from ppcls.utils.errors import UserError
from ppcls.utils.logger import get_logger


@dataclass
class GalleryReport:
    """What :func:`change_gallery` did.

    Attributes:
        size: images in the gallery afterwards.
        added, removed, present: images put in, taken out, and left alone because they were in it already.
        failures: (file, reason) of those that could not be read.
    """

    size: int = 0
    added: int = 0
    removed: int = 0
    present: int = 0
    failures: list[tuple[Path, str]] = field(default_factory=list)


def change_gallery(options: GalleryOptions) -> GalleryReport:
    """Do ``options.operation`` and say so in the log.

    Images are added batch by batch, each batch wholly or not at all: what a stopped ``build`` or ``add`` has done
    stays, and ``add`` with the same images goes on there.

    Raises:
        UserError: no such gallery or model, one that does not fit the other, an image without a label, an id that is
            not there, an unreadable image with ``strict``, a full disk.
    """
    if options.operation in ("build", "add"):
        report = _add(options)
    elif options.operation == "remove":
        report = _remove(options)
    else:
        report = _list(options)
    get_logger().info("%d images in %s", report.size, options.gallery)
    return report


def labelled_images(source: str, labels: str) -> dict[Path, str]:
    """Image → label of a folder, an image or a list; see :class:`GalleryOptions` for where labels come from.

    Raises:
        UserError: no image, one whose label cannot be told, or one that a list gives two labels.
    """
    given = read_image_list(source) if is_image_list(source) else [(path, None) for path in find_images(source)]
    found: dict[Path, str] = {}
    for path, label in given:
        label = _label(path, labels) if label is None else label
        if found.setdefault(path, label) != label:
            raise UserError(f"{source}: {path} has two labels, {found[path]!r} and {label!r}")
    return found


def _label(path: Path, kind: str) -> str:
    if kind == "folder":
        return path.absolute().parent.name
    try:
        return str(parse_name(str(path))[0])
    except UserError as error:
        raise UserError(f"{error}; or take the folders' names (--labels folder) or a list with labels") from error


def _add(options: GalleryOptions) -> GalleryReport:
    images = labelled_images(options.img_path, options.labels)
    report = GalleryReport()
    with requested_predictor(options) as predictor:
        made_with = model_digest(predictor.model)
        if options.operation == "build":
            gallery = Gallery.create(options.gallery, predictor.model.output.feature_dim, made_with)
        else:
            gallery = Gallery.open(options.gallery, made_with)
        known = {entry.source for entry in gallery.entries()}
        new = {path: label for path, label in images.items() if _source(path) not in known}
        report.present = len(images) - len(new)
        for batch in embedded_batches(predictor, [*new], options, report.failures):
            labels = [new[path] for path in batch.paths]
            ids = gallery.add(batch.embeddings, labels, [_source(path) for path in batch.paths], only_new=True)
            report.added += len(ids)
            report.present += len(labels) - len(ids)
    report.size = len(gallery)
    get_logger().info("%d images added, %d were there already", report.added, report.present)
    if report.failures:
        get_logger().warning("%d image(s) could not be read and were left out", len(report.failures))
    return report


def _remove(options: GalleryOptions) -> GalleryReport:
    gallery = Gallery.open(options.gallery)
    entries = list(gallery.entries())
    labels = {entry.label for entry in entries}
    unknown = [label for label in options.remove_labels if label not in labels]
    if unknown:
        raise UserError(f"gallery {options.gallery} has no image with label {', '.join(unknown)}")
    ids = {*options.ids, *(entry.id for entry in entries if entry.label in options.remove_labels)}
    gallery.remove(sorted(ids))
    get_logger().info("%d images removed", len(ids))
    return GalleryReport(size=len(gallery), removed=len(ids))


def _list(options: GalleryOptions) -> GalleryReport:
    gallery = Gallery.open(options.gallery)
    entries = list(gallery.entries())
    _print_table([(str(entry.id), entry.label, entry.source) for entry in entries])
    return GalleryReport(size=len(entries))


def _print_table(rows: Sequence[tuple[str, str, str]]) -> None:
    for row in rows:
        print("\t".join(row))


def _source(path: Path) -> str:
    """How the gallery names a file: wherever the command is started from, it is the same."""
    return os.path.abspath(path)  # noqa: PTH100  resolve() would follow links, which data sets are made of
