"""Loaders: the same pixels for any number of workers, any resume point and any number of processes."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from ppcls.data import loader as loader_module
from ppcls.data.dataset import train_labels
from ppcls.data.image import load_image
from ppcls.data.loader import EvalLoader, ImageCache, PairedStreams, TrainLoader
from ppcls.data.sample import Sample
from ppcls.data.transform import EvalTransform, TrainTransform
from ppcls.utils.errors import UserError

TRANSFORM = TrainTransform(16, 8)


def make_loader(samples, **options):
    settings = {"batch_size": 8, "instances": 2, "views": 2, "seed": 5, "workers": 0, **options}
    return TrainLoader(samples, train_labels(samples), TRANSFORM, **settings)


def same(first, second):
    return (
        first.index == second.index
        and all(np.array_equal(a, b) for a, b in zip(first.images, second.images, strict=True))
        and np.array_equal(first.pids, second.pids)
        and np.array_equal(first.camids, second.camids)
    )


def loader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_batches(samples):
    loader = make_loader(samples)
    batches = list(loader.epoch(0))
    assert len(batches) == loader.steps(0) > 1
    for batch in batches:
        assert [view.shape for view in batch.images] == [(8, 3, 16, 8)] * 2
        assert all(view.dtype == np.float32 for view in batch.images)
        assert batch.pids.dtype == batch.camids.dtype == batch.domains.dtype == np.int64
        assert [samples[i].pid // 10 - 1 for i in batch.index] == batch.pids.tolist()
        assert [samples[i].camid for i in batch.index] == batch.camids.tolist()
        assert not np.array_equal(batch.images[0], batch.images[1])


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("sampler", ["pk", "shuffle"])
def test_workers_change_nothing(samples, workers, sampler):
    plain = list(make_loader(samples, sampler=sampler).epoch(2))
    threaded = list(make_loader(samples, sampler=sampler, workers=workers).epoch(2))
    assert len(plain) == len(threaded)
    assert all(same(a, b) for a, b in zip(plain, threaded, strict=True))


def test_seed_epoch_round_and_name_change_the_batches(samples):
    first = next(make_loader(samples).epoch(0))
    others = [
        next(make_loader(samples, seed=6).epoch(0)),
        next(make_loader(samples).epoch(1)),
        next(make_loader(samples).epoch(0, round=1)),
        next(make_loader(samples, name="dreamed").epoch(0)),
    ]
    assert not any(same(first, other) for other in others)


@pytest.mark.parametrize("workers", [0, 2])
def test_resume_goes_on_exactly(samples, workers):
    whole = list(make_loader(samples).epoch(3))
    for start in range(len(whole) + 1):
        rest = list(make_loader(samples, workers=workers).epoch(3, start=start))
        assert len(rest) == len(whole) - start
        assert all(same(a, b) for a, b in zip(whole[start:], rest, strict=True))


def test_skipped_batches_are_not_decoded_and_views_share_one_decoding(samples, monkeypatch):
    loaded = []
    monkeypatch.setattr(loader_module, "load_image", lambda path: (loaded.append(path), load_image(path))[1])
    loader = make_loader(samples, views=3)
    last = list(loader.epoch(0, start=loader.steps(0) - 1))
    assert len(last) == 1
    assert sorted(loaded) == sorted({samples[index].path for index in last[0].index})


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("sampler", ["pk", "shuffle"])
def test_shards_together_are_the_batch(samples, world, sampler):
    whole = list(make_loader(samples, sampler=sampler).epoch(1))
    shards = [
        list(make_loader(samples, sampler=sampler, rank=rank, world_size=world).epoch(1)) for rank in range(world)
    ]
    for number, batch in enumerate(whole):
        parts = [shard[number] for shard in shards]
        assert {len(part.index) for part in parts} == {8 // world}
        rows = {index: row for row, index in enumerate(batch.index)}
        for part in parts:
            where = [rows[index] for index in part.index]
            for whole_view, view in zip(batch.images, part.images, strict=True):
                np.testing.assert_array_equal(whole_view[where], view)
            np.testing.assert_array_equal(batch.pids[where], part.pids)
        assert sorted(i for part in parts for i in part.index) == sorted(batch.index)
        if sampler == "pk":
            pids = [set(part.pids.tolist()) for part in parts]
            assert sum(len(group) for group in pids) == len(set.union(*pids)) == 4


def test_impossible_settings(samples):
    for options, message in (
        ({"world_size": 3}, "4 persons of a batch do not split evenly over 3 processes"),
        ({"world_size": 3, "sampler": "shuffle"}, "8 images of a batch do not split"),
        ({"batch_size": 20}, "largest batch size that fits is 16"),
        ({"sampler": "other"}, "unknown sampler 'other'"),
        ({"views": 0}, "views"),
        ({"rank": 2, "world_size": 2}, "rank 2"),
    ):
        with pytest.raises(UserError, match=message):
            make_loader(samples, **options)
    with pytest.raises(UserError, match=r"without a class label: \[20"):
        TrainLoader(samples, {10: 0}, TRANSFORM, 8)


def paired(samples, workers=0):
    primary = make_loader(samples, workers=workers)
    few = [s for s in samples if s.pid <= 50][::2]  # 5 persons × 3 images: exhausted sooner
    other = make_loader(few, workers=workers, name="dreamed", views=1, instances=2, batch_size=8)
    return PairedStreams(("new", primary), {"dreamed": other}), primary, other


@pytest.mark.parametrize("workers", [0, 2])
def test_paired_streams_restart_and_resume(samples, workers):
    streams, primary, other = paired(samples)
    whole = list(streams.epoch(4))
    assert len(whole) == streams.steps(4) == primary.steps(4) > other.steps(4)
    expected, repetition = [], 0
    while len(expected) < len(whole):
        expected += list(other.epoch(4, round=repetition))
        repetition += 1
    for step, pair in enumerate(whole):
        assert list(pair) == ["new", "dreamed"] and same(pair["dreamed"], expected[step])
    for start in range(len(whole) + 1):
        rest = list(paired(samples, workers)[0].epoch(4, start=start))
        assert len(rest) == len(whole) - start
        for a, b in zip(whole[start:], rest, strict=True):
            assert same(a["new"], b["new"]) and same(a["dreamed"], b["dreamed"])
    assert not loader_threads()


def test_paired_names_must_differ(samples):
    with pytest.raises(UserError, match="two data streams"):
        PairedStreams(("new", make_loader(samples)), {"new": make_loader(samples)})


def test_stopping_early_leaves_no_thread(samples):
    batches = make_loader(samples, workers=3).epoch(0)
    next(batches)
    assert loader_threads()
    batches.close()
    assert not loader_threads()
    pairs = paired(samples, 2)[0].epoch(0)
    next(pairs)
    del pairs
    assert not loader_threads()


CONSUMER = """
import sys
from ppcls.data.dataset import open_dataset, train_labels
from ppcls.data.loader import TrainLoader
from ppcls.data.transform import TrainTransform
train = open_dataset("market", sys.argv[1], ["train"]).train
batches = TrainLoader(train, train_labels(train), TrainTransform(64, 32), 16, workers=3, views=4).epoch(0)
next(batches)
raise SystemExit(7)
"""


def test_a_consumer_that_dies_does_not_hang(tmp_path, make_market):
    make_market(tmp_path / "market", images=40)
    command = [sys.executable, "-c", CONSUMER, str(tmp_path)]
    root = Path(__file__).parents[2]
    assert subprocess.run(command, cwd=root, timeout=60, check=False).returncode == 7


@pytest.mark.parametrize("workers", [0, 2])
def test_truncated_image_is_named(samples, workers):
    broken = Path(samples[7].path)
    broken.write_bytes(broken.read_bytes()[:-60])
    with pytest.raises(UserError, match=rf"cannot decode .*{broken.name}.*tools/check_dataset\.py"):
        for epoch in range(9):
            list(make_loader(samples, workers=workers).epoch(epoch))
    with pytest.raises(UserError, match=broken.name):
        list(EvalLoader(samples, EvalTransform(16, 8), 8, workers=workers))
    broken.unlink()
    with pytest.raises(UserError, match=rf"{broken.name} does not exist"):
        list(EvalLoader(samples, EvalTransform(16, 8), 8, workers=workers))
    assert not loader_threads()


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff\xd8\xff\xe0nothing"])
def test_what_is_no_image_is_named(tmp_path, content):
    path = tmp_path / "0001_c1.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"cannot decode .*0001_c1\.jpg"):
        load_image(str(path))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_evaluation_loader(samples, workers):
    loader = EvalLoader(samples, EvalTransform(16, 8), 10, workers=workers)
    parts = list(loader)
    assert len(parts) == len(loader) == 5 and [len(part[1]) for part in parts] == [10, 10, 10, 10, 8]
    assert [s for _, part in parts for s in part] == samples
    expected = np.stack([EvalTransform(16, 8)(load_image(s.path)) for s in samples])
    np.testing.assert_array_equal(np.concatenate([images for images, _ in parts]), expected)
    assert list(EvalLoader([], EvalTransform(16, 8), 10)) == []


def test_the_cache_changes_nothing_and_keeps_its_limit(samples):
    one = 24 * 12 * 3
    for limit in (0, one - 1, one, 10 * one + 5, 2**30):
        cache = ImageCache(limit)
        plain, cached = make_loader(samples), make_loader(samples, cache=cache, workers=3)
        for epoch in range(2):
            for a, b in zip(plain.epoch(epoch), cached.epoch(epoch), strict=True):
                assert same(a, b)
                assert 0 <= cache.bytes <= limit
        stats = cache.stats()
        assert stats["bytes"] == stats["images"] * one == min(stats["images"], limit // one) * one
        assert stats["hits"] > 0 if limit == 2**30 else stats["hits"] == 0 or limit >= one


def test_the_cache_forgets_the_least_recently_used(samples):
    cache = ImageCache(2 * 24 * 12 * 3)
    a, b, c = (sample.path for sample in samples[:3])
    for path in (a, b, a, c, a):
        cache.load(path)
    assert cache.stats()["hits"] == 2
    cache.load(b)
    assert cache.stats()["misses"] == 4


def test_mixed_domains_reach_the_batch(samples):
    mixed = [Sample(s.path, s.pid, s.camid, domain=int(s.pid > 40)) for s in samples]
    for batch in make_loader(mixed, batch_size=16).epoch(0):
        assert batch.domains.tolist() == [int(label >= 4) for label in batch.pids]
        assert batch.domains.tolist() == sorted(batch.domains.tolist())
