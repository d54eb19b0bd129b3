"""Which images the parity gate looks at."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ppcls.configs.export import ExportOptions
from ppcls.data.dataset import open_dataset
from ppcls.data.lite import make_lite_data
from ppcls.data.sample import Sample
from ppcls.engine.evaluator import require_matches
from ppcls.retrieval import find_images
from ppcls.utils.errors import UserError
from ppcls.utils.logger import only_warnings

#: The synthetic set: 12 people × 3 cameras × 2 pictures of 128×64, and the gallery's strangers; seed 0.
SYNTHETIC = {"ids": 2, "test_ids": 12, "cams": 3, "images_per_cam": 2, "height": 128, "width": 64, "seed": 0}
_SYNTHETIC_DOMAIN = "market"


@dataclass(frozen=True)
class GateImages:
    """Image files to compare on.

    Attributes:
        origin: what they are, for messages.
        samples: all of them, each once.
        queries: (name, samples) of each query set; empty where the images carry no ids.
        gallery: what the queries are searched in.
    """

    origin: str
    samples: list[Sample]
    queries: list[tuple[str, list[Sample]]] = field(default_factory=list)
    gallery: list[Sample] = field(default_factory=list)


@contextlib.contextmanager
def gate_images(options: ExportOptions) -> Iterator[GateImages]:
    """Those of ``--dataset``, else of ``--images``, else the synthetic set, which lives as long as the context.

    Raises:
        UserError: a missing data set or folder, or a data set whose queries have no match in another camera.
    """
    if options.dataset:
        yield _of_dataset(options.dataset, options.data_root, options.limit)
    elif options.images:
        yield _of_files(options.images, options.limit)
    else:
        with synthetic_images() as images:
            yield images


@contextlib.contextmanager
def synthetic_images() -> Iterator[GateImages]:
    """Synthetic pedestrians with ids, drawn anew into a temporary folder; the same ones every time."""
    with tempfile.TemporaryDirectory(prefix="ppcls-export-") as folder:
        with only_warnings():
            make_lite_data(folder, [_SYNTHETIC_DOMAIN], **SYNTHETIC)
        images = _of_dataset(_SYNTHETIC_DOMAIN, folder, 0)
        yield GateImages("synthetic pedestrians", images.samples, images.queries, images.gallery)


def calibration_files(options: ExportOptions) -> list[str]:
    """Up to ``--calibration-images`` real images, evenly spaced over --images, else the data set's training split."""
    if options.images:
        files = [str(path) for path in find_images(options.images)]
    else:
        files = [sample.path for sample in open_dataset(options.dataset, options.data_root, ("train",)).train]
    return _spread(files, options.calibration_images)


def _of_dataset(name: str, data_root: str | Path, limit: int) -> GateImages:
    data = open_dataset(name, data_root, ("query", "gallery"))
    require_matches(data)
    queries, gallery = data.queries, data.gallery
    if limit and len(data.query) + len(gallery) > limit:
        chosen = _some_people([*data.query, *gallery], {sample.pid for sample in data.query}, limit)
        queries = [(name, [sample for sample in samples if sample.pid in chosen]) for name, samples in queries]
        queries = [(name, samples) for name, samples in queries if samples]
        gallery = [sample for sample in gallery if sample.pid in chosen]
    return GateImages(
        data.name, [*(sample for _, samples in queries for sample in samples), *gallery], queries, gallery
    )


def _of_files(source: str, limit: int) -> GateImages:
    files = [str(path) for path in find_images(source)]
    return GateImages(source, [Sample(path, 0, 0) for path in (_spread(files, limit) if limit else files)])


def _some_people(samples: list[Sample], queried: set[int], limit: int) -> set[int]:
    """As many of the queried people as have no more than ``limit`` images together, evenly spaced over the ids."""
    images = Counter(sample.pid for sample in samples)
    for people in range(len(queried), 0, -1):
        chosen = _spread(sorted(queried), people)
        if sum(images[pid] for pid in chosen) <= limit:
            return set(chosen)
    raise UserError(f"--limit {limit} does not hold all images of a single person; give a larger one")


def _spread(items: Sequence, count: int) -> list:
    """``count`` of ``items``, evenly spaced, the first and the last among them; all if there are no more."""
    if count >= len(items):
        return list(items)
    return [items[index] for index in np.linspace(0, len(items) - 1, count).round().astype(int)]
