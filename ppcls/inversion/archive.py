"""The folder of a dreaming job: complete batches only, resumable at any moment, shared by shards.

Layout::

    {id}_{digest}.jpg         images; id = class index of the teacher, digest of the JPEG bytes
    dream.json                what the job was asked for; another job cannot mix its images in
    manifest.jsonl            one record an image (manifest-{i}of{n}.jsonl with several shards)
    journal-{k}.json          exists while the images of batch k are being written
    state-{k}.npz             exists while batch k is being optimised: pixels, moments, step, best
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ppcls.inversion.locks import ShardLock
from ppcls.inversion.schedule import plan_batches
from ppcls.utils.errors import UserError
from ppcls.utils.files import append_line, atomic_path, atomic_write_bytes, atomic_write_json, digest
from ppcls.utils.locks import folder_lock

_FORMAT = 1
_IMAGE = re.compile(r"(\d+)_[^_.]+\.(?:jpg|png)")


@dataclass(frozen=True)
class ImageRecord:
    """One line of a manifest.

    Attributes:
        file: name in the folder.
        target: class index.
        batch: number of the batch; ``slot``: place in it; ``batch_images``: its size.
        seed: of the job; the batch's noise is drawn from (seed, batch).
        steps: of the two phases.
        ce: the teacher's cross-entropy of this image; ``confidence``: its probability of the target;
            ``predicted``: its first choice (all before JPEG).
        bn_loss: batch-norm statistics loss, one number for the batch.
    """

    file: str
    target: int
    batch: int
    slot: int
    batch_images: int
    seed: int
    steps: list[int]
    ce: float
    confidence: float
    predicted: int
    bn_loss: float


def encode_jpeg(image: np.ndarray, quality: int = 75) -> bytes:
    """uint8 [H, W, 3] → JPEG bytes."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format="JPEG", quality=quality)
    return stream.getvalue()


def image_name(target: int, jpeg: bytes) -> str:
    """``{id}_{digest}.jpg``: the same pixels get the same name in every process."""
    return f"{target}_{digest(jpeg)}.jpg"


def list_images(folder: str | Path) -> list[Path]:
    """Images ``{id}_{digest}.jpg|png`` of a folder, sorted by name."""
    return sorted(path for path in Path(folder).iterdir() if _IMAGE.fullmatch(path.name))


def read_manifests(folder: str | Path) -> list[ImageRecord]:
    """Records of all complete batches of all manifests in ``folder``, sorted by batch and slot.

    A batch counts when all its records and all its image files are there.
    """
    folder = Path(folder)
    batches: dict[int, list[ImageRecord]] = {}
    present = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    for path in sorted(folder.glob("manifest*.jsonl")):
        for number, records in _batches_of(path).items():
            if all(record.file in present for record in records):
                batches.setdefault(number, records)
    return [record for number in sorted(batches) for record in batches[number]]


class Archive:
    """A dreaming job's folder, opened for work; a context manager.

    Batch k belongs to shard ``k % num_shards``; the union over the shards is the set that one process makes.
    A killed job leaves nothing half written: images appear under their names only when complete, a batch counts
    only when its last record is in the manifest, and opening the folder again settles what was in between.
    All living processes of a folder use the same ``num_shards``; a finished or killed job may be continued with
    another one.

    Args:
        folder: made with its parents if missing.
        shots: images per class.
        num_classes: C of the teacher.
        batch_size: images per batch.
        seed: of targets and noise.
        settings: everything else that decides the images (JSON values): steps, weights, teacher's digest.
        iters: make at most the first ``iters`` batches; None for all.
        num_shards: number of processes or machines.
        shard: which of them this is, from 0.
        adopt: count images that are there already towards ``shots`` (only when the job starts).

    Raises:
        UserError: the folder belongs to a job with other settings, or holds images of unknown origin and
            ``adopt`` is off, or another process works on this shard.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        shots: int,
        num_classes: int,
        batch_size: int,
        seed: int,
        settings: dict,
        iters: int | None = None,
        num_shards: int = 1,
        shard: int = 0,
        adopt: bool = False,
    ):
        if not 0 <= shard < num_shards:
            raise UserError(f"--shard {shard} is impossible with --num-shards {num_shards}; shards count from 0")
        self.folder = Path(folder)
        self.num_shards, self.shard = num_shards, shard
        self.folder.mkdir(parents=True, exist_ok=True)
        wanted = {"shots": shots, "num_classes": num_classes, "batch_size": batch_size, "seed": seed, **settings}
        with folder_lock(self.folder):
            existing = self._claim(json.loads(json.dumps(wanted)), adopt)
        self._lock = ShardLock(self.folder, shard, num_shards)
        self.schedule = plan_batches(seed, shots, num_classes, batch_size, existing)
        self.adopted = sum(min(count, shots) for count in existing)
        self.limit = len(self.schedule) if iters is None else min(iters, len(self.schedule))
        name = "manifest.jsonl" if num_shards == 1 else f"manifest-{shard}of{num_shards}.jsonl"
        self._manifest = self.folder / name
        try:
            self._settle()
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exc_info) -> None:
        self._lock.release()

    @property
    def missing(self) -> int:
        """Images that the limit ``iters`` will leave missing."""
        return sum(len(targets) for targets in self.schedule[self.limit :])

    @property
    def planned(self) -> int:
        """Images to dream in all batches of all shards up to the limit."""
        return sum(len(targets) for targets in self.schedule[: self.limit])

    def committed(self) -> set[int]:
        """Numbers of the batches that are complete, of all shards."""
        return {record.batch for record in read_manifests(self.folder)}

    def pending(self) -> list[int]:
        """Numbers of this shard's batches that are still to be made, ascending."""
        done = self.committed()
        return [k for k in range(self.shard, self.limit, self.num_shards) if k not in done]

    def complete(self) -> bool:
        """Whether every batch up to the limit is there, of all shards."""
        return len(self.committed().intersection(range(self.limit))) == self.limit

    def commit(self, batch: int, jpegs: Sequence[bytes], records: Sequence[ImageRecord]) -> None:
        """Store the images of a batch, then its records, so that a kill in between can be told and mended.

        Raises:
            UserError: two images are the same to the last byte (the optimisation collapsed).
        """
        names = [record.file for record in records]
        if len(set(names)) < len(names) or set(names) & {record.file for record in read_manifests(self.folder)}:
            raise UserError(f"batch {batch} in {self.folder} holds an image twice: dreaming collapsed; lower --lr")
        lines = [_dump(record) for record in records]
        journal = self._journal(batch)
        atomic_write_json(journal, lines)
        for name, jpeg in zip(names, jpegs, strict=True):
            atomic_write_bytes(self.folder / name, jpeg)
        self._finish(batch, lines)

    def save_state(self, batch: int, state: dict[str, np.ndarray]) -> None:
        """Keep the state of an unfinished batch; replaces an earlier one."""
        with atomic_path(self._state(batch)) as path, path.open("wb") as stream:
            np.savez(stream, **state)

    def load_state(self, batch: int) -> dict[str, np.ndarray] | None:
        """The state that :meth:`save_state` kept, or None."""
        if not self._state(batch).exists():
            return None
        with np.load(self._state(batch), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}

    def _journal(self, batch):
        return self.folder / f"journal-{batch}.json"

    def _state(self, batch):
        return self.folder / f"state-{batch}.npz"

    def _claim(self, wanted, adopt):
        """Write or check ``dream.json``; the number of adopted images of each class."""
        path = self.folder / "dream.json"
        for part in self.folder.glob(".dream.*.part.json"):
            part.unlink()
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            _check_same(self.folder, found, wanted)
            return _as_list(found["adopted"], wanted["num_classes"])
        counts = collections.Counter(int(path.name.split("_")[0]) for path in list_images(self.folder))
        if counts and not adopt:
            raise UserError(
                f"{self.folder} holds {sum(counts.values())} images of unknown origin (no dream.json); "
                "choose another folder, or ask to count them (--resume)"
            )
        if counts and max(counts) >= wanted["num_classes"]:
            raise UserError(
                f"{self.folder} has images of class {max(counts)}, the teacher has classes 0 to "
                f"{wanted['num_classes'] - 1}; these are another teacher's dreams"
            )
        adopted = {str(target): counts[target] for target in sorted(counts)}
        atomic_write_json(path, {"format": _FORMAT, "settings": wanted, "adopted": adopted})
        return _as_list(adopted, wanted["num_classes"])

    def _settle(self):
        """Put right what a killed process of this shard left behind."""
        kept = _batches_of(self._manifest)
        present = {path.name for path in self.folder.iterdir()}
        whole = {k: records for k, records in kept.items() if all(record.file in present for record in records)}
        text = "".join(_dump(record) + "\n" for records in whole.values() for record in records)
        if self._manifest.exists() and self._manifest.read_text(encoding="utf-8") != text:
            atomic_write_bytes(self._manifest, text.encode("utf-8"))
        done = self.committed()
        for path in self._mine("journal-*.json"):
            self._settle_journal(path, done)
        for path in self._mine("state-*.npz"):
            if _number(path) in done:
                path.unlink()
        for path in [*self.folder.glob(".state-*"), *self.folder.glob(".journal-*"), *self.folder.glob(".manifest*")]:
            if path.name.startswith(f".{self._manifest.stem}.") or self._owns(_number(path)):
                path.unlink(missing_ok=True)

    def _settle_journal(self, path, done):
        batch = _number(path)
        lines = json.loads(path.read_text(encoding="utf-8"))
        names = [json.loads(line)["file"] for line in lines]
        for name in names:
            for part in self.folder.glob(f".{name.partition('.')[0]}.*.part.jpg"):
                part.unlink(missing_ok=True)
        if batch in done:
            path.unlink()
        elif all(self._intact(name) for name in names):
            self._finish(batch, lines)
        else:
            for name in names:
                (self.folder / name).unlink(missing_ok=True)
            path.unlink()

    def _intact(self, name):
        path = self.folder / name
        return path.exists() and image_name(int(name.split("_")[0]), path.read_bytes()) == name

    def _finish(self, batch, lines):
        """All images are on disk: one write makes the batch count, then its helpers go."""
        append_line(self._manifest, "\n".join(lines))
        self._state(batch).unlink(missing_ok=True)
        self._journal(batch).unlink(missing_ok=True)

    def _mine(self, pattern):
        return [path for path in sorted(self.folder.glob(pattern)) if self._owns(_number(path))]

    def _owns(self, batch):
        return batch is not None and batch % self.num_shards == self.shard


def _as_list(adopted, num_classes):
    return [adopted.get(str(target), 0) for target in range(num_classes)]


def _number(path):
    """The batch number in ``state-12.npz``, ``.journal-12.x.part.json``; None in other names."""
    match = re.match(r"\.?(?:state|journal)-(\d+)\.", path.name)
    return int(match.group(1)) if match else None


def _dump(record):
    return json.dumps(dataclasses.asdict(record))


def _batches_of(path):
    """Complete batches of one manifest file; records that a kill cut off are left out."""
    batches: dict[int, dict[int, ImageRecord]] = {}
    lines = path.read_text(encoding="utf-8").split("\n") if path.exists() else []
    for line in lines:
        with contextlib.suppress(json.JSONDecodeError, TypeError):  # a cut-off line: its batch is incomplete
            record = ImageRecord(**json.loads(line))
            batches.setdefault(record.batch, {})[record.slot] = record
    return {
        number: [slots[slot] for slot in sorted(slots)]
        for number, slots in batches.items()
        if len(slots) == next(iter(slots.values())).batch_images
    }


def _check_same(folder, found, wanted):
    if found.get("format") != _FORMAT:
        raise UserError(f"{folder}/dream.json has format {found.get('format')}, this version knows {_FORMAT}")
    there = found["settings"]
    different = [
        f"{key} {there.get(key)!r} there, {wanted.get(key)!r} asked"
        for key in sorted(there.keys() | wanted.keys())
        if there.get(key) != wanted.get(key)
    ]
    if different:
        raise UserError(
            f"{folder} was dreamed with other settings ({'; '.join(different)}); use those, or another folder"
        )
