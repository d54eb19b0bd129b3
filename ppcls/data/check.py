"""Is a data set fit to train and to evaluate on? All that can be known before the first training step."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ppcls.data.dataset.base import ReIDData
from ppcls.data.image import decode_bytes
from ppcls.data.prefetch import Cancelled, run_ahead
from ppcls.data.sample import Sample
from ppcls.utils.errors import UserError
from ppcls.utils.files import digest

DISTRACTOR_PID = 0
_FILES_PER_JOB = 32


@dataclass
class Problem:
    """Something to mend. kind: a stable name; message: one line; items: every file, id or query concerned."""

    kind: str
    message: str
    items: list[str] = field(default_factory=list)


@dataclass
class BatchShape:
    """Whether batches of `persons` × `instances` images can be drawn from `ids` persons.

    short_ids: persons with fewer than `instances` images, whose images repeat within a batch.
    largest_batch: the largest batch size that fits.
    """

    batch_size: int
    instances: int
    persons: int
    ids: int
    short_ids: int
    largest_batch: int

    @property
    def fits(self) -> bool:
        """Whether there are enough persons and the batch size is a multiple of `instances`."""
        return self.batch_size % self.instances == 0 and 0 < self.persons <= self.ids


@dataclass
class CheckReport:
    """What was found. counts: one row {subset, ids, images, cameras} per subset."""

    name: str
    root: str
    counts: list[dict[str, Any]]
    shapes: list[BatchShape]
    problems: list[Problem]
    notes: list[str]

    @property
    def clean(self) -> bool:
        """Whether there is nothing to mend."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON."""
        shapes = [{**asdict(shape), "fits": shape.fits} for shape in self.shapes]
        return {**asdict(self), "shapes": shapes, "clean": self.clean}


def check_dataset(
    data: ReIDData,
    batch_sizes: Sequence[int] = (64,),
    instances: Sequence[int] = (4,),
    workers: int = 2,
    progress: bool = False,
) -> CheckReport:
    """Check an opened data set, decoding every file of it in `workers` threads.

    progress: show a bar with the time left on standard error. Problems found: training ids with one image,
    batch shapes that the data cannot fill, queries without a match from another camera, unreadable files, the
    same person or the same file in training and test sets, the same file more than once.
    """
    if min([*batch_sizes, *instances, 1]) < 1 or workers < 0:
        raise UserError("batch sizes and images per person must be positive, workers not negative")
    tests = [*data.query, *data.gallery]
    everything = [*data.train, *tests]
    digests, broken = _decode_all(everything, workers, progress)
    shapes = [batch_shape(data.train, b, k) for b in batch_sizes for k in instances] if data.train else []
    found = [
        _single_image_ids(data.train),
        *(_unfilled(shape) for shape in shapes),
        *(_unmatched(name, queries, data.gallery) for name, queries in data.queries),
        Problem("unreadable", "files cannot be decoded; remove or replace them", broken),
        _shared_ids(data.train, tests) if data.one_numbering else None,
        Problem(
            "leaked_files",
            "files are the same in the training and the test sets; scores will be too good",
            _common_files(data.train, tests, digests),
        ),
        Problem(
            "duplicates",
            "files occur more than once among the training images or among the test images",
            _duplicates(data.train, digests) + _duplicates(tests, digests),
        ),
    ]
    counts = [
        {
            "subset": subset,
            "ids": len({sample.pid for sample in samples}),
            "images": len(samples),
            "cameras": len({sample.camid for sample in samples}),
        }
        for subset, samples in data.subsets()
    ]
    problems = [problem for problem in found if problem is not None and problem.items]
    return CheckReport(data.name, data.root, counts, shapes, problems, _notes(data, shapes))


def batch_shape(samples: Sequence[Sample], batch_size: int, instances: int) -> BatchShape:
    """How batches of `batch_size` with `instances` images per person fit the samples."""
    images = Counter(sample.pid for sample in samples)
    short = sum(count < instances for count in images.values())
    largest = len(images) * instances
    return BatchShape(batch_size, instances, batch_size // instances, len(images), short, largest)


def _notes(data: ReIDData, shapes: Sequence[BatchShape]) -> list[str]:
    notes = [
        f"{shape.short_ids} of {shape.ids} training ids have fewer than {shape.instances} images; "
        "theirs repeat within a batch"
        for shape in {shape.instances: shape for shape in shapes}.values()
        if shape.short_ids
    ]
    distractors = sum(sample.pid == DISTRACTOR_PID for sample in data.gallery) if data.one_numbering else 0
    if distractors:
        notes.append(f"{distractors} gallery images are distractors (id 0)")
    return notes


def _single_image_ids(train: Sequence[Sample]) -> Problem:
    images = Counter(sample.pid for sample in train)
    single = sorted(pid for pid, count in images.items() if count == 1)
    message = "training ids have a single image, so nothing to be compared with; add images or remove them"
    return Problem("single_image_ids", message, [str(pid) for pid in single])


def _unfilled(shape: BatchShape) -> Problem | None:
    if shape.fits:
        return None
    if shape.batch_size % shape.instances or not shape.persons:
        reason = f"{shape.batch_size} is not a multiple of {shape.instances}"
    else:
        reason = f"it needs {shape.persons} persons, there are {shape.ids}"
    item = f"{shape.batch_size} with {shape.instances} per person: {reason}; largest {shape.largest_batch}"
    return Problem("unfilled_batch", "batch sizes cannot be filled from the training set", [item])


def _unmatched(name: str, queries: Sequence[Sample], gallery: Sequence[Sample]) -> Problem | None:
    if not queries or not gallery:
        return None
    cameras: dict[int, set[int]] = defaultdict(set)
    for sample in gallery:
        cameras[sample.pid].add(sample.camid)
    lonely = [query.path for query in queries if not cameras[query.pid] - {query.camid}]
    message = f"queries of {name} have no match from another camera in the gallery; evaluation skips them"
    return Problem("unmatched_queries", message, lonely)


def _shared_ids(train: Sequence[Sample], tests: Sequence[Sample]) -> Problem:
    shared = {sample.pid for sample in train} & {sample.pid for sample in tests} - {DISTRACTOR_PID}
    message = "person ids are in the training and the test sets; a person must be in one of them only"
    return Problem("shared_ids", message, [str(pid) for pid in sorted(shared)])


def _common_files(train: Sequence[Sample], tests: Sequence[Sample], digests: dict[str, str]) -> list[str]:
    known = {digests[sample.path]: sample.path for sample in train if sample.path in digests}
    pairs = {(known[digests[sample.path]], sample.path) for sample in tests if digests.get(sample.path) in known}
    return [f"{first} = {second}" for first, second in sorted(pairs)]


def _duplicates(samples: Sequence[Sample], digests: dict[str, str]) -> list[str]:
    groups: dict[str, list[Sample]] = defaultdict(list)
    for sample in samples:
        if sample.path in digests:
            groups[digests[sample.path]].append(sample)
    lines = []
    for group in groups.values():
        if len(group) > 1:
            clash = "  (with different person ids)" if len({sample.pid for sample in group}) > 1 else ""
            lines.append(" = ".join(sorted(sample.path for sample in group)) + clash)
    return sorted(lines)


def _decode_all(samples: Iterable[Sample], workers: int, progress: bool) -> tuple[dict[str, str], list[str]]:
    """Digest of each readable file, and `path: reason` of the others."""
    paths = list(dict.fromkeys(sample.path for sample in samples))
    parts = [paths[i : i + _FILES_PER_JOB] for i in range(0, len(paths), _FILES_PER_JOB)]
    digests: dict[str, str] = {}
    broken: list[str] = []
    with tqdm(total=len(paths), desc="decoding", unit=" files", disable=None if progress else True) as bar:
        for part in run_ahead([partial(_decode_part, part) for part in parts], workers):
            for path, found, reason in part:
                if reason:
                    broken.append(f"{path}: {reason}")
                else:
                    digests[path] = found
            bar.update(len(part))
    return digests, broken


def _decode_part(paths: Sequence[str], stop: threading.Event) -> list[tuple[str, str, str]]:
    result = []
    for path in paths:
        if stop.is_set():
            raise Cancelled
        try:
            data = Path(path).read_bytes()
            decode_bytes(data)
            result.append((path, digest(data), ""))
        except (OSError, ValueError) as error:
            result.append((path, "", str(error)))
    return result
