"""What every P×K batch is, whatever the data."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppcls.data.sample import Sample
from ppcls.data.sampler import PKSampler, ShuffleSampler, draw_pk_batches
from ppcls.utils.errors import UserError

images_per_person = st.lists(st.integers(1, 13), min_size=1, max_size=12)


def make_samples(counts, cameras=3):
    return [Sample(f"{pid}-{k}", pid, (pid + k) % cameras) for pid, count in enumerate(counts) for k in range(count)]


@settings(max_examples=30, deadline=None)
@given(images_per_person, st.integers(1, 5), st.integers(1, 12), st.integers(0, 2**31))
def test_batches(counts, instances, persons, seed):
    samples = make_samples(counts)
    batch_size = persons * instances
    if persons > len(counts):
        with pytest.raises(UserError, match=f"largest batch size that fits is {len(counts) * instances}"):
            PKSampler(samples, batch_size, instances, seed)
        return
    batches = PKSampler(samples, batch_size, instances, seed).epoch(0)
    groups = sum(max(1, count // instances) for count in counts)
    assert 1 <= len(batches) <= groups // persons
    used = Counter()
    for batch in batches:
        assert len(batch) == batch_size
        per_person = Counter(samples[index].pid for index in batch)
        assert len(per_person) == persons and set(per_person.values()) == {instances}
        assert [samples[i].camid for i in batch] == sorted(samples[i].camid for i in batch)
        used.update(batch)
    # an image repeats only where a person has too few of them
    assert all(n == 1 or counts[samples[index].pid] < instances for index, n in used.items())
    # the epoch goes on until fewer than P persons have images left
    left = Counter({pid: max(1, count // instances) for pid, count in enumerate(counts)})
    left.subtract(pid for batch in batches for pid in {samples[index].pid for index in batch})
    assert min(left.values()) >= 0 and sum(n > 0 for n in left.values()) < persons


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 9), st.integers(0, 3))
def test_order_depends_on_the_keys_alone(seed, epoch, repetition):
    samples = make_samples([6] * 9)
    first = PKSampler(samples, 16, 4, seed, "new")
    first.epoch(epoch + 1)
    random.seed(epoch)
    again = PKSampler(samples, 16, 4, seed, "new").epoch(epoch, repetition)
    assert first.epoch(epoch, repetition) == again
    others = [
        PKSampler(samples, 16, 4, seed, "new").epoch(epoch + 1, repetition),
        PKSampler(samples, 16, 4, seed, "new").epoch(epoch, repetition + 1),
        PKSampler(samples, 16, 4, seed + 1, "new").epoch(epoch, repetition),
        PKSampler(samples, 16, 4, seed, "dreamed").epoch(epoch, repetition),
    ]
    assert all(other != again for other in others)


def test_sorting_is_stable_and_uses_the_domain_of_mixed_sets():
    no_camera = [Sample(f"{k:02d}", k // 4, -1) for k in range(16)]
    for batch in PKSampler(no_camera, 8, 4).epoch(0):
        pids = [no_camera[index].pid for index in batch]
        assert pids == [pids[0]] * 4 + [pids[4]] * 4
    mixed = [Sample(f"{k:02d}", k // 4, 9 - k % 3, domain=k // 8) for k in range(16)]
    for batch in PKSampler(mixed, 16, 4).epoch(0):
        assert [mixed[index].domain for index in batch] == [0] * 8 + [1] * 8


def test_persons_are_drawn_uniformly():
    rng, np_rng = random.Random(5), np.random.RandomState(5)
    first = Counter()
    for _ in range(600):
        batch = draw_pk_batches([0, 0, 1, 1, 2, 2], [0] * 6, 4, 2, rng, np_rng)[0]
        first.update(index // 2 for index in batch[::2])
    assert all(340 < first[pid] < 460 for pid in range(3))


@pytest.mark.parametrize(("batch_size", "instances"), [(6, 4), (0, 4), (2, 4), (8, 0), (-4, 4)])
def test_impossible_shapes(batch_size, instances):
    with pytest.raises(UserError, match="is not a positive multiple"):
        PKSampler(make_samples([4] * 9), batch_size, instances)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 99))
def test_shuffle(count, batch_size, seed):
    samples = make_samples([count])
    if batch_size > count:
        with pytest.raises(UserError, match="does not fit"):
            ShuffleSampler(samples, batch_size, seed)
        return
    batches = ShuffleSampler(samples, batch_size, seed).epoch(3)
    flat = [index for batch in batches for index in batch]
    assert len(batches) == count // batch_size and len(set(flat)) == len(flat)
    assert all(len(batch) == batch_size for batch in batches)
