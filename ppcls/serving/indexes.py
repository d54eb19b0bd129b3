"""Named galleries below one folder. Every worker of every service that was given the folder sees the same ones."""

from __future__ import annotations

import re
import shutil
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ppcls.retrieval.gallery import Gallery
from ppcls.serving.messages import KEY_PATTERN
from ppcls.serving.problems import BadRequest, Conflict, NoSpace, NotFound
from ppcls.utils.errors import UserError

_KEPT_OPEN = 32
_UNFINISHED = ".building-"


class Indexes:
    """Build, extend, shrink and search galleries by name. Its methods block: call them in one thread.

    Args:
        folder: made if it is not there.
        feature_dim, model_digest: of the model that is served; galleries of another one are refused.
        max_indexes, max_images: how many galleries, and how many images in one.
    """

    def __init__(self, folder: str | Path, feature_dim: int, model_digest: str, max_indexes: int, max_images: int):
        self._folder, self._dim, self._digest = Path(folder), feature_dim, model_digest
        self._max_indexes, self._max_images = max_indexes, max_images
        self._open: OrderedDict[str, Gallery] = OrderedDict()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make --index-dir {folder}: {error.strerror or error}") from error

    def build(self, key: str | None, embeddings: np.ndarray, labels: Sequence[str]) -> tuple[str, dict[str, str]]:
        """A new gallery of embeddings [n, D]; its name and {id: label}. It appears whole or not at all.

        Raises:
            Conflict: the name is taken; NoSpace: no room for another one, or for so many images.
        """
        key = uuid.uuid4().hex if key is None else key
        path = self._path(key)
        self._check_room(0, len(labels))
        try:
            existing = [entry for entry in self._folder.iterdir() if not entry.name.startswith(".")]
        except OSError as error:
            raise NoSpace(f"the folder of the indexes is gone: {error.strerror}") from error
        if path in existing:
            raise _taken(key)
        if len(existing) >= self._max_indexes:
            raise NoSpace(f"there are {len(existing)} indexes already; no more are accepted")
        unfinished = self._folder / f"{_UNFINISHED}{uuid.uuid4().hex}"
        try:
            Gallery.create(unfinished, self._dim, self._digest).add(embeddings, labels)
            unfinished.rename(path)
        except UserError as error:
            raise NoSpace(self._without_paths(error, unfinished, key)) from error
        except OSError as error:
            raise _taken(key) from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
        return key, self._id_map(self._gallery(key))

    def add(self, key: str, embeddings: np.ndarray, labels: Sequence[str]) -> dict[str, str]:
        """Embeddings [n, D] more; {id: label} of all.

        Raises:
            NotFound, Conflict: as :meth:`search`; NoSpace: no room for so many images, or a full disk.
        """
        gallery = self._gallery(key)
        self._check_room(len(gallery), len(labels))
        try:
            gallery.add(embeddings, labels)
        except UserError as error:
            raise NoSpace(self._without_paths(error, gallery.folder, key)) from error
        return self._id_map(gallery)

    def remove(self, key: str, ids: Sequence[int]) -> dict[str, str]:
        """Images out of a gallery; {id: label} of the rest.

        Raises:
            NotFound: no such index, or no such image in it; nothing is removed then. Conflict: as :meth:`search`.
        """
        gallery = self._gallery(key)
        try:
            gallery.remove(ids)
        except UserError as error:
            raise NotFound(self._without_paths(error, gallery.folder, key)) from error
        return self._id_map(gallery)

    def search(self, key: str, embedding: np.ndarray, k: int) -> list[tuple[int, str, float]]:
        """(id, label, cosine similarity) of the ``k`` images nearest to an embedding [D], nearest first.

        Raises:
            NotFound: no such index; Conflict: it was made with another model.
        """
        try:
            ids, labels, scores = self._gallery(key).search(embedding[None], k)
        except UserError as error:
            raise Conflict(self._without_paths(error, self._path(key), key)) from error
        cosines = scores[0].clip(-1, 1).tolist()  # rounding may leave 1.0000001
        return list(zip(ids[0].tolist(), labels[0], cosines, strict=True))

    def _path(self, key: str) -> Path:
        if not re.fullmatch(KEY_PATTERN, key):  # the routes check it too; a folder's name must not depend on that
            raise BadRequest("an indexKey is up to 64 letters, digits, '_' and '-'")
        return self._folder / key

    def _gallery(self, key: str) -> Gallery:
        path = self._path(key)
        if not path.is_dir():
            self._open.pop(key, None)
            raise NotFound(f"no index '{key}'; build it with /reid-index-build")
        try:
            if key not in self._open:
                self._open[key] = Gallery.open(path, self._digest)
            len(self._open[key])  # reads what others have changed since, which may be beyond use
        except UserError as error:
            self._open.pop(key, None)
            raise Conflict(self._without_paths(error, path, key)) from error
        self._open.move_to_end(key)
        while len(self._open) > _KEPT_OPEN:
            self._open.popitem(last=False)
        return self._open[key]

    def _check_room(self, held: int, more: int) -> None:
        if held + more > self._max_images:
            raise NoSpace(f"{held} + {more} images; an index holds at most {self._max_images}")

    @staticmethod
    def _id_map(gallery: Gallery) -> dict[str, str]:
        return {str(entry.id): entry.label for entry in gallery.entries()}

    @staticmethod
    def _without_paths(error: UserError, path: Path, key: str) -> str:
        """Callers of a service have no business with its folders."""
        return str(error).replace(f"gallery {path}", f"index '{key}'").replace(str(path), f"'{key}'")


def _taken(key: str) -> Conflict:
    return Conflict(f"there is an index '{key}' already; name another one, or add to it with /reid-index-add")
