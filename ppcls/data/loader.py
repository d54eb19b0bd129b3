"""Batches of images: training (several views, shards, exact resume), paired streams, evaluation.

Every random draw is keyed by (seed, stream name, epoch, round, batch, slot, view), so neither the number of
workers, nor the number of processes, nor the place where a run was resumed changes a single pixel.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
from PIL import Image

from ppcls.data.image import ImageCache, load_image
from ppcls.data.prefetch import Cancelled, run_ahead
from ppcls.data.sample import Sample
from ppcls.data.sampler import PKSampler, ShuffleSampler
from ppcls.data.transform import EvalTransform, TrainTransform, resize
from ppcls.utils.errors import UserError
from ppcls.utils.seeding import python_rng

__all__ = ["Batch", "EvalLoader", "ImageCache", "PairedStreams", "TrainLoader"]


@dataclass
class Batch:
    """One training batch (of this rank).

    images: one float32 array [B, 3, H, W] per view. pids: int64 [B] class labels. camids: int64 [B] raw
    cameras. index: positions in the loader's sample list. domains: int64 [B] index of the data set in a mixed
    set, else 0.
    """

    images: list[np.ndarray]
    pids: np.ndarray
    camids: np.ndarray
    index: list[int]
    domains: np.ndarray | None = None


class TrainLoader:
    """Training batches of one stream of samples.

    labels: raw pid → class label. batch_size: of all ranks together. views: independently augmented copies of
    each image, which is decoded once. sampler: "pk" (P persons × `instances` images) or "shuffle" (plain,
    drop-last). workers: threads; 0 = none. cache: decoded images kept in memory, may be shared between
    loaders. Rank r of `world_size` processes gets every world_size-th person of each batch with all its
    images; the shards of all ranks together are exactly the batch of a single process.

    UserError: a pid without a label, a batch that the data cannot fill or that does not split over the ranks.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        labels: Mapping[int, int],
        transform: TrainTransform,
        batch_size: int,
        instances: int = 4,
        views: int = 1,
        seed: int = 0,
        workers: int = 2,
        cache: ImageCache | None = None,
        rank: int = 0,
        world_size: int = 1,
        sampler: str = "pk",
        name: str = "new",
    ):
        if views < 1 or workers < 0:
            raise UserError(f"views ({views}) must be positive and workers ({workers}) not negative")
        if not 0 <= rank < world_size:
            raise UserError(f"rank {rank} is not below the number of processes, {world_size}")
        unlabelled = sorted({sample.pid for sample in samples} - set(labels))
        if unlabelled:
            raise UserError(f"stream {name!r}: person ids without a class label: {unlabelled[:5]}")
        self.samples, self.labels, self.transform = list(samples), dict(labels), transform
        self.views, self.seed, self.workers, self.name = views, seed, workers, name
        self.rank, self.world_size = rank, world_size
        self._load: Callable[[str], Image.Image] = cache.load if cache else load_image
        self._sampler = self._make_sampler(sampler, batch_size, instances)
        self._whole_ids = sampler == "pk"
        self._drawn: tuple[tuple[int, int], list[list[int]]] | None = None

    def _make_sampler(self, kind: str, batch_size: int, instances: int) -> PKSampler | ShuffleSampler:
        if kind == "pk":
            sampler = PKSampler(self.samples, batch_size, instances, self.seed, self.name)
            units, what = sampler.persons, f"{sampler.persons} persons of a batch"
        elif kind == "shuffle":
            sampler = ShuffleSampler(self.samples, batch_size, self.seed, self.name)
            units, what = batch_size, f"{batch_size} images of a batch"
        else:
            raise UserError(f"unknown sampler {kind!r}: choose pk or shuffle")
        if units % self.world_size:
            raise UserError(f"the {what} do not split evenly over {self.world_size} processes; change the batch size")
        return sampler

    def _batches(self, e: int, round: int) -> list[list[int]]:
        if self._drawn is None or self._drawn[0] != (e, round):
            self._drawn = ((e, round), self._sampler.epoch(e, round))
        return self._drawn[1]

    def steps(self, e: int, round: int = 0) -> int:
        """Number of batches of epoch `e` (of its `round`-th repetition)."""
        return len(self._batches(e, round))

    def epoch(self, e: int, start: int = 0, round: int = 0) -> Iterator[Batch]:
        """Batches `start`, start+1, … of epoch `e`; those before are skipped without decoding anything."""
        jobs = [
            partial(self._build, e, round, number, indices) for number, indices in enumerate(self._batches(e, round))
        ]
        return run_ahead(jobs[start:], self.workers)

    def endless(self, e: int, start: int = 0, stop: int | None = None) -> Iterator[Batch]:
        """As `epoch`, but going on with round 1, 2, … when the data is exhausted, up to batch `stop`."""
        return run_ahead(islice(self._endless_jobs(e), start, stop), self.workers)

    def _endless_jobs(self, e: int) -> Iterator[Callable[[threading.Event], Batch]]:
        repetition = 0
        while True:
            for number, indices in enumerate(self._batches(e, repetition)):
                yield partial(self._build, e, repetition, number, indices)
            repetition += 1

    def _shard(self, indices: Sequence[int]) -> list[int]:
        """Slots of a batch that belong to this rank."""
        if not self._whole_ids:
            return list(range(self.rank, len(indices), self.world_size))
        persons = list(dict.fromkeys(self.samples[index].pid for index in indices))
        mine = set(persons[self.rank :: self.world_size])
        return [slot for slot, index in enumerate(indices) if self.samples[index].pid in mine]

    def _donor(self, rng: random.Random) -> Image.Image:
        """A picture of the stream, for random patches; which one depends on ``rng`` alone."""
        sample = rng.choice(self.samples)
        return resize(self._load(sample.path), self.transform.height, self.transform.width)

    def _build(self, e: int, repetition: int, number: int, indices: list[int], stop: threading.Event) -> Batch:
        slots = self._shard(indices)
        shape = (len(slots), 3, self.transform.height, self.transform.width)
        images = [np.empty(shape, np.float32) for _ in range(self.views)]
        decoded: dict[int, Image.Image] = {}
        for row, slot in enumerate(slots):
            if stop.is_set():
                raise Cancelled
            index = indices[slot]
            if index not in decoded:
                image = self._load(self.samples[index].path)
                decoded[index] = resize(image, self.transform.height, self.transform.width)
            for view, array in enumerate(images):
                rng = python_rng(self.seed, self.name, "augment", e, repetition, number, slot, view)
                array[row] = self.transform(decoded[index], rng, self._donor)
        mine = [indices[slot] for slot in slots]
        chosen = [self.samples[index] for index in mine]
        return Batch(
            images=images,
            pids=np.array([self.labels[sample.pid] for sample in chosen], np.int64),
            camids=np.array([sample.camid for sample in chosen], np.int64),
            index=mine,
            domains=np.array([sample.domain for sample in chosen], np.int64),
        )


class PairedStreams:
    """Several streams read in step, as {name: Batch}.

    The primary stream gives the length of an epoch. The others begin anew each epoch and, when exhausted, go
    on with another round of their own order and augmentation.
    """

    def __init__(self, primary: tuple[str, TrainLoader], others: Mapping[str, TrainLoader]):
        self.primary_name, self.primary = primary
        self.others = dict(others)
        if self.primary_name in self.others:
            raise UserError(f"two data streams are called {self.primary_name!r}")

    def steps(self, e: int) -> int:
        """Number of batches of epoch `e`: that of the primary stream."""
        return self.primary.steps(e)

    def epoch(self, e: int, start: int = 0) -> Iterator[dict[str, Batch]]:
        """Batches of epoch `e` from number `start` on; those before are skipped without decoding."""
        steps = self.steps(e)
        streams = {self.primary_name: self.primary.epoch(e, start)}
        streams |= {name: loader.endless(e, start, max(start, steps)) for name, loader in self.others.items()}
        try:
            for batches in zip(*streams.values(), strict=True):
                yield dict(zip(streams, batches, strict=True))
        finally:
            for stream in streams.values():
                stream.close()


class EvalLoader:
    """All samples once, in order: iterates (float32 [B, 3, H, W], list of B samples).

    The last batch may be smaller.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        transform: EvalTransform,
        batch_size: int,
        workers: int = 2,
        cache: ImageCache | None = None,
    ):
        if batch_size < 1 or workers < 0:
            raise UserError(f"batch size ({batch_size}) must be positive and workers ({workers}) not negative")
        self.samples, self.transform, self.batch_size, self.workers = (
            list(samples),
            transform,
            batch_size,
            workers,
        )
        self._load: Callable[[str], Image.Image] = cache.load if cache else load_image

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.samples) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[np.ndarray, list[Sample]]]:
        parts = range(0, len(self.samples), self.batch_size)
        return run_ahead([partial(self._build, self.samples[i : i + self.batch_size]) for i in parts], self.workers)

    def _build(self, samples: list[Sample], stop: threading.Event) -> tuple[np.ndarray, list[Sample]]:
        images = np.empty((len(samples), 3, self.transform.height, self.transform.width), np.float32)
        for row, sample in enumerate(samples):
            if stop.is_set():
                raise Cancelled
            images[row] = self.transform(self._load(sample.path))
        return images, samples
