"""P×K batches: P distinct persons, K images of each.

Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person Re-Identification", 2017.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from ppcls.data.sample import Sample
from ppcls.utils.errors import UserError
from ppcls.utils.seeding import numpy_legacy_rng, python_rng


def _chunks(
    indices: list[int], instances: int, py_rng: random.Random, np_rng: np.random.RandomState
) -> list[list[int]]:
    """Shuffled groups of `instances` indices; too few images make one group drawn with replacement."""
    if len(indices) < instances:
        indices = [int(i) for i in np_rng.choice(indices, size=instances, replace=True)]
    else:
        indices = list(indices)
    py_rng.shuffle(indices)
    return [indices[i : i + instances] for i in range(0, len(indices) - instances + 1, instances)]


def _persons_per_batch(num_ids: int, batch_size: int, instances: int) -> int:
    if instances < 1 or batch_size < instances or batch_size % instances:
        raise UserError(f"batch size {batch_size} is not a positive multiple of {instances} images per person")
    persons = batch_size // instances
    if num_ids < persons:
        raise UserError(
            f"batch size {batch_size} needs {persons} persons with {instances} images each, but the data has "
            f"{num_ids}; the largest batch size that fits is {num_ids * instances}"
        )
    return persons


def draw_pk_batches(
    pids: Sequence[int],
    sort_keys: Sequence[int],
    batch_size: int,
    instances: int,
    py_rng: random.Random,
    np_rng: np.random.RandomState,
) -> list[list[int]]:
    """Batches of sample indices for one epoch.

    The images of each person are shuffled and cut into groups of `instances`, the remainder is dropped. While
    enough persons have a group left, P = batch_size / instances distinct persons are drawn uniformly and give
    one group each. Every batch is then stably sorted by `sort_keys`. Persons are visited in order of first
    appearance, and random numbers are drawn in the order of the reference implementation.

    UserError if batch_size is no multiple of instances or the data has fewer than P persons.
    """
    by_person: dict[int, list[int]] = {}
    for index, pid in enumerate(pids):
        by_person.setdefault(int(pid), []).append(index)
    persons = _persons_per_batch(len(by_person), batch_size, instances)
    groups = {pid: _chunks(indices, instances, py_rng, np_rng) for pid, indices in by_person.items()}
    available, batches = list(by_person), []
    while len(available) >= persons:
        batch = []
        for pid in py_rng.sample(available, persons):
            batch += groups[pid].pop(0)
            if not groups[pid]:
                available.remove(pid)
        batches.append(sorted(batch, key=lambda index: sort_keys[index]))
    return batches


class PKSampler:
    """Seeded P×K batches of a list of samples, sorted by camera (by domain where samples have several
    domains).

    The order depends on (seed, name, epoch, round) and nothing else. UserError as for `draw_pk_batches`.
    """

    def __init__(self, samples: Sequence[Sample], batch_size: int, instances: int = 4, seed: int = 0, name: str = ""):
        self.pids = [sample.pid for sample in samples]
        mixed = len({sample.domain for sample in samples}) > 1
        self.sort_keys = [sample.domain if mixed else sample.camid for sample in samples]
        self.persons = _persons_per_batch(len(set(self.pids)), batch_size, instances)
        self.batch_size, self.instances, self.seed, self.name = batch_size, instances, seed, name

    def epoch(self, e: int, round: int = 0) -> list[list[int]]:
        """Batches of sample indices of epoch `e`; `round` counts restarts within the epoch."""
        keys = (self.name, "order", e, round)
        return draw_pk_batches(
            self.pids,
            self.sort_keys,
            self.batch_size,
            self.instances,
            python_rng(self.seed, *keys),
            numpy_legacy_rng(self.seed, *keys),
        )


class ShuffleSampler:
    """Seeded plain shuffling; the incomplete last batch is dropped. UserError if there is no complete one."""

    def __init__(self, samples: Sequence[Sample], batch_size: int, seed: int = 0, name: str = ""):
        if batch_size < 1 or len(samples) < batch_size:
            raise UserError(f"batch size {batch_size} does not fit a data set of {len(samples)} images")
        self.count, self.batch_size, self.seed, self.name = len(samples), batch_size, seed, name

    def epoch(self, e: int, round: int = 0) -> list[list[int]]:
        """Batches of sample indices of epoch `e`; `round` counts restarts within the epoch."""
        order = list(range(self.count))
        python_rng(self.seed, self.name, "order", e, round).shuffle(order)
        size = self.batch_size
        return [order[i : i + size] for i in range(0, self.count - size + 1, size)]
