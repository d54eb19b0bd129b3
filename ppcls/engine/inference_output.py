"""Files that embeddings are written to: ``.npz`` at once, ``.jsonl`` line by line; both appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ppcls.retrieval.neighbours import Found
from ppcls.utils.files import atomic_path


class Writer(ABC):
    """Takes batches of embeddings."""

    @abstractmethod
    def write(self, paths: Sequence[Path], embeddings: np.ndarray, found: Found | None) -> None:
        """Add embeddings float32 [n, D] of ``paths`` [n], with their neighbours if there was a search."""


@contextlib.contextmanager
def open_writer(path: str | Path, model_digest: str) -> Iterator[Writer]:
    """A writer for the extension of ``path``; the file takes its place when the block ends without an exception.

    Raises:
        UserError: the folder cannot be written (at the start), the disk is full.
    """
    with atomic_path(path) as temporary:
        if Path(path).suffix == ".jsonl":
            with temporary.open("w", encoding="utf-8") as stream:
                yield _JsonLines(stream)
        else:
            writer = _Arrays()
            yield writer
            with temporary.open("wb") as stream:
                np.savez(stream, model_digest=np.array(model_digest), **writer.arrays())


def record(embedding: np.ndarray, found: Found | None, row: int) -> dict[str, Any]:
    """One image as a JSON object: ``embedding`` and, after a search, ``nearest`` (id, path, label, distance)."""
    values: dict[str, Any] = {"embedding": _numbers(embedding)}
    if found is not None:
        columns = zip(
            found.ids[row].tolist(), found.paths[row], found.labels[row], _numbers(found.distances[row]), strict=True
        )
        values["nearest"] = [dict(zip(("id", "path", "label", "distance"), item, strict=True)) for item in columns]
    return values


class _JsonLines(Writer):
    """``{"path": …, "embedding": […], "nearest": […]}`` a line; nothing is kept in memory."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def write(self, paths: Sequence[Path], embeddings: np.ndarray, found: Found | None) -> None:
        for row, path in enumerate(paths):
            self._stream.write(json.dumps({"path": str(path), **record(embeddings[row], found, row)}) + "\n")


class _Arrays(Writer):
    """``paths`` [N], ``embeddings`` [N, D]; ``nearest`` (ids), ``nearest_paths``, ``nearest_labels``, ``distances``."""

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._embeddings: list[np.ndarray] = []
        self._found: list[Found] = []

    def write(self, paths: Sequence[Path], embeddings: np.ndarray, found: Found | None) -> None:
        self._paths += [str(path) for path in paths]
        self._embeddings.append(embeddings)
        if found is not None:
            self._found.append(found)

    def arrays(self) -> dict[str, np.ndarray]:
        """What goes into the file."""
        arrays = {"paths": np.array(self._paths, np.str_), "embeddings": np.concatenate(self._embeddings)}
        if self._found:
            arrays["nearest"] = np.concatenate([found.ids for found in self._found])
            arrays["distances"] = np.concatenate([found.distances for found in self._found])
            arrays["nearest_paths"] = np.array([row for found in self._found for row in found.paths], np.str_)
            arrays["nearest_labels"] = np.array([row for found in self._found for row in found.labels], np.str_)
        return arrays


def _numbers(row: np.ndarray) -> list[float]:
    """Nine digits, which name every float32 exactly."""
    return [float(f"{value:.9g}") for value in row.tolist()]
