"""A gallery that stays: embeddings with labels in a folder, added to, removed from and searched by any process."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from ppcls.configs.exported import ExportedModel
from ppcls.metric.distance import DEFAULT_BLOCK_BYTES, Parts, Scorer, as_features, score_strips, squared_norms
from ppcls.metric.ranking import leading
from ppcls.retrieval.gallery_store import (
    MANIFEST,
    Contents,
    Entry,
    Manifest,
    commit_first,
    commit_removal,
    commit_rows,
    compact_if_worthwhile,
    read_contents,
)
from ppcls.utils.errors import UserError
from ppcls.utils.files import digest
from ppcls.utils.locks import folder_lock


def model_digest(model: ExportedModel) -> str:
    """Tells models apart whose embeddings cannot be compared; equal for every format and precision of one export."""
    spec = model.input
    what = {
        "checkpoint": model.source.digest,
        "arch": model.source.arch,
        "feature": model.output.feature,
        "input": [spec.height, spec.width, *spec.mean, *spec.std],
    }
    return digest(json.dumps(what, sort_keys=True).encode("utf-8"))


class Gallery:
    """Embeddings float32 [n, D] with ids and labels, searched exactly by cosine similarity.

    Safe to kill at any moment: a change is in the folder wholly or not at all. Several processes may read and write
    one folder; every call sees what any of them committed before it. May be shared by threads. Embeddings stay on
    disk and are mapped; memory holds ids, labels and norms, and 256 MiB at most during a search.
    """

    def __init__(self, folder: Path, contents: Contents):
        """Use :meth:`create` or :meth:`open`."""
        self.folder = folder
        self._contents = contents
        self._refreshing = threading.Lock()

    @classmethod
    def create(cls, folder: str | Path, feature_dim: int, model_digest: str) -> Gallery:
        """An empty gallery in a new or empty folder.

        Raises:
            UserError: the folder holds a gallery or other files already, or cannot be written; ``feature_dim`` < 1.
        """
        folder = Path(folder)
        if feature_dim < 1:
            raise UserError(f"feature_dim is {feature_dim}; it must be at least 1")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make folder {folder}: {error.strerror or error}") from error
        with folder_lock(folder):
            if (folder / MANIFEST).exists():
                raise UserError(f"{folder} holds a gallery already; open it, or name another folder")
            if any(not path.name.startswith((".", "vectors-0.", "entries-0.")) for path in folder.iterdir()):
                raise UserError(f"{folder} holds other files; name a new folder for the gallery")
            commit_first(folder, Manifest(feature_dim=feature_dim, model_digest=model_digest))
        return cls.open(folder)

    @classmethod
    def open(cls, folder: str | Path, model_digest: str | None = None) -> Gallery:
        """An existing gallery; with ``model_digest``, only if it was made with that model.

        Raises:
            UserError: no gallery there, a damaged one, or one of another model.
        """
        gallery = cls(Path(folder), read_contents(Path(folder)))
        if model_digest is not None and gallery.model_digest != model_digest:
            raise UserError(
                f"gallery {folder} was made with another model; its embeddings cannot be compared with this one's: "
                "build the gallery anew"
            )
        return gallery

    @property
    def feature_dim(self) -> int:
        """D."""
        return self._contents.manifest.feature_dim

    @property
    def model_digest(self) -> str:
        """:func:`model_digest` of the model that the embeddings are from."""
        return self._contents.manifest.model_digest

    def __len__(self) -> int:
        """Images in the gallery now."""
        contents = self._fresh()
        return len(contents.alive) - contents.dead

    def entries(self) -> Iterator[Entry]:
        """All images, by rising id."""
        contents = self._fresh()
        for row in np.flatnonzero(contents.alive).tolist():
            yield contents.entry(row)

    def embeddings(self, ids: Sequence[int]) -> np.ndarray:
        """float32 [n, D] as they were added. UserError for an id that is not there."""
        contents = self._fresh()
        return np.asarray(contents.vectors[_rows(self.folder, contents, ids)])

    def add(
        self,
        embeddings: np.ndarray,
        labels: Sequence[str],
        sources: Sequence[str] | None = None,
        *,
        only_new: bool = False,
    ) -> list[int]:
        """Append rows [n, D]; the ids of those added, which rise and are never used twice.

        Labels need not differ (a person has many images), and equal rows are kept as rows of their own. ``only_new``
        leaves out rows whose source is in the gallery at this moment, whichever process put it there.

        Raises:
            UserError: numbers of rows and labels differ, D is not the gallery's, a value is not finite, a label is
                not text, the disk is full. Nothing is added then.
        """
        labels, sources = list(labels), list(sources) if sources is not None else [""] * len(labels)
        if not len(embeddings) and not labels:
            return []
        vectors = as_features(embeddings, "embeddings")
        dim = self._fresh().manifest.feature_dim
        if vectors.shape[1] != dim:
            raise UserError(
                f"embeddings of {vectors.shape[1]} numbers do not fit gallery {self.folder}, which has {dim}"
            )
        if not len(vectors) == len(labels) == len(sources):
            raise UserError(
                f"{len(vectors)} embeddings, {len(labels)} labels and {len(sources)} sources; give one each"
            )
        if not all(isinstance(text, str) for text in (*labels, *sources)):
            raise UserError("labels and sources of a gallery must be text")
        squared_norms(vectors, "embeddings")
        with folder_lock(self.folder):
            contents = self._fresh()
            if only_new:
                held = {contents.sources[row] for row in np.flatnonzero(contents.alive).tolist()}
                new = [row for row, source in enumerate(sources) if source not in held]
                vectors, labels, sources = vectors[new], [labels[row] for row in new], [sources[row] for row in new]
            return commit_rows(self.folder, contents, vectors, labels, sources) if labels else []

    def remove(self, ids: Sequence[int]) -> None:
        """Take images out; a repeated id counts once.

        Raises:
            UserError: an id that is not (or no longer) there. Nothing is removed then.
        """
        wanted = sorted(set(ids))
        if not wanted:
            return
        self._fresh()
        with folder_lock(self.folder):
            contents = self._fresh()
            _rows(self.folder, contents, wanted)
            commit_removal(self.folder, contents, wanted)
            compact_if_worthwhile(self.folder, self._fresh())

    def search(
        self, embeddings: np.ndarray, k: int, *, block_bytes: int = DEFAULT_BLOCK_BYTES
    ) -> tuple[np.ndarray, list[list[str]], np.ndarray]:
        """The ``min(k, len(gallery))`` nearest images of each row of ``embeddings`` [n, D], nearest first.

        Exact; equal scores are ordered by id. The score matrix takes ``block_bytes`` at most (32 MiB at least).

        Returns:
            ids int64 [n, k], labels of the same shape as nested lists, cosine similarities float32 [n, k].

        Raises:
            UserError: ``k`` < 1, D is not the gallery's, a value is not finite.
        """
        found, scores = self.search_entries(embeddings, k, block_bytes=block_bytes)
        ids = np.array([[entry.id for entry in row] for row in found], np.int64).reshape(scores.shape)
        return ids, [[entry.label for entry in row] for row in found], scores

    def search_entries(
        self, embeddings: np.ndarray, k: int, *, block_bytes: int = DEFAULT_BLOCK_BYTES
    ) -> tuple[list[list[Entry]], np.ndarray]:
        """As :meth:`search`, with whole entries: lists [n][k], and cosine similarities float32 [n, k]."""
        contents = self._fresh()
        rows, scores = nearest_rows(embeddings, contents.vectors, contents.norms, contents.alive, k, block_bytes)
        return [[contents.entry(row) for row in found] for found in rows.tolist()], scores

    def _fresh(self) -> Contents:
        with self._refreshing:
            contents = read_contents(self.folder, self._contents)
            same = lambda of: (of.manifest.model_digest, of.manifest.feature_dim)  # noqa: E731
            if same(contents) != same(self._contents):
                raise UserError(f"gallery {self.folder} was replaced by one of another model; open it anew")
            self._contents = contents
            return contents


def nearest_rows(
    queries: np.ndarray,
    vectors: np.ndarray,
    norms: np.ndarray,
    alive: np.ndarray | None,
    k: int,
    block_bytes: int = DEFAULT_BLOCK_BYTES,
) -> tuple[np.ndarray, np.ndarray]:
    """The ``k`` rows of ``vectors`` float32 [m, D] nearest by cosine to each of ``queries`` [n, D]: exact, ties by row.

    ``norms``: float64 [m], squared norms of ``vectors``; ``alive``: bool [m], rows that count (None: all). The same as
    :func:`ppcls.metric.ranking.top_k` of the rows that count, without their copy and with their norms reused.

    Returns:
        rows int64 and cosines float32, both [n, min(k, rows that count)].

    Raises:
        UserError: ``k`` < 1, another D, a query that is not finite.
    """
    if k < 1:
        raise UserError(f"k is {k}; ask for at least one neighbour")
    k = min(k, len(vectors) if alive is None else int(np.count_nonzero(alive)))
    if not k:
        empty = (len(as_features(queries, "query features")), 0)
        return np.empty(empty, np.int64), np.empty(empty, np.float32)
    scorer = Scorer(queries, vectors, gallery_norms=norms)
    rows = np.empty((len(scorer.query), k), np.int64)
    scores = np.empty((len(scorer.query), k), np.float32)
    for strip, parts in score_strips(scorer, block_bytes):
        counted = parts if alive is None else _living(parts, alive)
        rows[strip], scores[strip] = leading(counted, strip.stop - strip.start, k)
    return rows, scores


def _living(parts: Parts, alive: np.ndarray) -> Parts:
    """The score parts with removed rows behind all others."""
    dead = np.flatnonzero(~alive)

    def masked() -> Iterator[tuple[int, np.ndarray]]:
        for first, block in parts():
            inside = dead[(dead >= first) & (dead < first + block.shape[1])]
            block[:, inside - first] = -np.inf
            yield first, block

    return masked


def _rows(folder: Path, contents: Contents, ids: Sequence[int]) -> np.ndarray:
    """Row numbers of living ids."""
    wanted = np.asarray(ids)
    if wanted.size and wanted.dtype.kind not in "iu":
        raise UserError(f"ids of a gallery are whole numbers, not {wanted.dtype}")
    wanted = wanted.astype(np.int64)
    places = np.searchsorted(contents.ids, wanted)
    inside = np.minimum(places, max(0, len(contents.ids) - 1))
    found = (
        (contents.ids[inside] == wanted) & contents.alive[inside] if len(contents.ids) else np.zeros(len(wanted), bool)
    )
    if not found.all():
        missing = ", ".join(map(str, wanted[~found][:5].tolist()))
        raise UserError(f"gallery {folder} holds no image with id {missing}")
    return places
