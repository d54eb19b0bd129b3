"""Any image files → embeddings → the nearest images of a gallery folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ppcls.data.dataset.base import IMAGE_EXTENSIONS
from ppcls.metric.ranking import top_k
from ppcls.retrieval.image_list import is_image_list, read_image_list
from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_path

if TYPE_CHECKING:
    from ppcls.retrieval.extractor import FeatureExtractor


@dataclass
class Matches:
    """The nearest gallery images of each query.

    Attributes:
        queries, gallery: image files.
        index: int64 [Nq, k] into ``gallery``, nearest first.
        distance: float32 [Nq, k]; 1 − cosine, or Euclidean.
    """

    queries: list[Path]
    gallery: list[Path]
    index: np.ndarray
    distance: np.ndarray


def find_images(source: str | Path) -> list[Path]:
    """The file itself, the images that a ``.txt`` file lists, in its order, or all images below a folder, sorted.

    Raises:
        UserError: nothing there, or no image among it.
    """
    source = Path(source)
    if is_image_list(source):
        return [path for path, _ in read_image_list(source)]
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UserError(f"{source}: no such image or folder")
    found = sorted(
        path
        for path in source.rglob("*")
        if path.suffix.lower() in IMAGE_EXTENSIONS and not path.name.startswith(".") and not path.is_dir()
    )
    if not found:
        raise UserError(f"{source} holds no image ({', '.join(IMAGE_EXTENSIONS)})")
    return found


def search(
    extractor: FeatureExtractor,
    queries: list[Path],
    gallery: list[Path],
    k: int = 5,
    metric: str = "cosine",
    query_features: np.ndarray | None = None,
) -> Matches:
    """The ``k`` nearest of ``gallery`` (all of it if it is smaller) for each of ``queries``."""
    features = extractor.of_paths(queries) if query_features is None else query_features
    index, score = top_k(features, extractor.of_paths(gallery), min(k, len(gallery)), metric)
    return Matches(queries, gallery, index, 1.0 - score if metric == "cosine" else score)


def save_embeddings(path: str | Path, paths: list[Path], features: np.ndarray, matches: Matches | None = None) -> None:
    """Write ``paths`` [N] (unicode) and ``embeddings`` [N, D] float32 to an ``.npz``, with matches if there are any."""
    arrays = {"paths": np.array([str(item) for item in paths]), "embeddings": features}
    if matches is not None:
        arrays["gallery"] = np.array([str(item) for item in matches.gallery])
        arrays |= {"nearest": matches.index, "distances": matches.distance}
    if Path(path).suffix != ".npz":
        raise UserError(f"--output {path}: give a name that ends in .npz")
    with atomic_path(path) as temporary:
        np.savez(temporary, **arrays)
