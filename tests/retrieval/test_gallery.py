"""Persistent galleries: exact search, and a folder that is right whatever happens to its writers."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from ppcls.configs.exported import ExportedModel, GraphFile, InputSpec, OutputSpec, SourceSpec
from ppcls.metric.ranking import top_k
from ppcls.retrieval import gallery_store
from ppcls.retrieval.gallery import Gallery, model_digest
from ppcls.utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
DIM = 4
SETUP = (
    f"import sys; sys.path.insert(0, {str(ROOT)!r})\nimport numpy as np\nfrom ppcls.retrieval.gallery import Gallery\n"
)


def child(code: str, *arguments: object, **how) -> subprocess.Popen:
    command = [sys.executable, "-c", SETUP + textwrap.dedent(code), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **how)


@pytest.fixture
def gallery(tmp_path) -> Gallery:
    return Gallery.create(tmp_path / "galerie", DIM, "model")


def rows(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((count, DIM), dtype=np.float32)


def test_what_another_process_does_is_seen(gallery):
    first = gallery.add(rows(3), ["a", "b", "c"], ["a.jpg", "b.jpg", "c.jpg"])
    code = """
        gallery = Gallery.open(sys.argv[1], "model")
        gallery.remove([1])
        print(gallery.add(np.ones((1, 4), np.float32), ["ü\\n\\t"]))
    """
    other = child(code, gallery.folder)
    assert other.communicate()[0] == "[3]\n" and first == [0, 1, 2]
    assert [(entry.id, entry.label, entry.source) for entry in gallery.entries()] == [
        (0, "a", "a.jpg"),
        (2, "c", "c.jpg"),
        (3, "ü\n\t", ""),
    ]
    np.testing.assert_array_equal(gallery.embeddings([0, 3]), [rows(3)[0], np.ones(4)])


def test_a_commit_shows_even_if_time_and_inode_of_the_manifest_recur(gallery):
    """Inodes are used again and clocks tick in milliseconds: two commits in one tick must not hide from a writer."""
    manifest = gallery.folder / gallery_store.MANIFEST
    gallery.add(rows(1), ["a"])
    known, status = manifest.read_bytes(), manifest.stat()
    Gallery.open(gallery.folder).add(rows(1), ["b"])
    later = manifest.read_bytes()
    for content, expected in ((known, ["a"]), (later, ["a", "b"])):
        assert len(content) == status.st_size
        manifest.write_bytes(content)
        os.utime(manifest, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert [entry.label for entry in gallery.entries()] == expected


@pytest.mark.slow
def test_writers_in_several_processes_lose_nothing(gallery):
    code = """
        gallery = Gallery.open(sys.argv[1])
        for number in range(40):
            gallery.add(np.full((2, 4), number, np.float32), [sys.argv[2]] * 2)
            if number % 4 == 3:
                gallery.remove([next(entry.id for entry in gallery.entries() if entry.label == sys.argv[2])])
    """
    others = [child(code, gallery.folder, name) for name in "xyz"]
    assert [other.wait(timeout=60) for other in others] == [0, 0, 0]
    entries = list(gallery.entries())
    assert len(entries) == 3 * (80 - 10) and len({entry.id for entry in entries}) == len(entries)
    assert {name: sum(entry.label == name for entry in entries) for name in "xyz"} == dict.fromkeys("xyz", 70)


@pytest.mark.slow
def test_a_killed_writer_leaves_a_whole_gallery(gallery):
    code = """
        gallery = Gallery.open(sys.argv[1])
        print("ready", flush=True)
        while True:
            ids = gallery.add(np.ones((3, 4), np.float32), ["k"] * 3)
            gallery.remove(ids[:1])
    """
    for moment in (0.02, 0.05, 0.11):
        other = child(code, gallery.folder)
        other.stdout.readline()
        time.sleep(moment)
        other.send_signal(signal.SIGKILL)
        other.wait()
        other.stdout.close()
        fresh = Gallery.open(gallery.folder)
        assert [entry.id for entry in fresh.entries()] == [entry.id for entry in gallery.entries()]
        before = len(gallery)
        added = gallery.add(rows(1), ["after"])
        assert len(fresh) == before + 1 and list(fresh.entries())[-1].id == added[0]
        np.testing.assert_array_equal(fresh.embeddings(added), rows(1))


def test_threads_may_share_one_gallery(gallery):
    with ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(gallery.add, rows(2, seed), [f"{seed}", f"{seed}"]) for seed in range(12)]
        looks = [pool.submit(gallery.search, rows(1), 3) for _ in range(12)]
        ids = [index for job in jobs for index in job.result()]
    assert all(look.result()[0].shape[0] == 1 for look in looks)
    assert sorted(ids) == list(range(24)) and len(gallery) == 24


def test_nothing_is_added_when_the_disk_is_full(gallery, monkeypatch):
    gallery.add(rows(2), ["a", "b"])
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    real = os.fsync
    for fails_at in range(4):
        calls = iter(range(100))

        def fsync(handle, calls=calls, fails_at=fails_at):
            if next(calls) == fails_at:
                raise full
            real(handle)

        monkeypatch.setattr(os, "fsync", fsync)
        before = len(gallery)
        try:
            gallery.add(rows(3, 1), ["c", "d", "e"])
            added = 3
        except UserError as error:
            added = 0
            assert "No space left on device" in str(error)
        monkeypatch.setattr(os, "fsync", real)
        assert len(gallery) == len(Gallery.open(gallery.folder)) == before + added
    assert added == 3  # the last attempt had nothing left to fail at
    gallery.add(rows(1, 2), ["f"])
    np.testing.assert_array_equal(gallery.embeddings([list(gallery.entries())[-1].id]), rows(1, 2))


def test_the_folder_holds_plain_numbers_and_json(gallery):
    gallery.add(rows(3), ["a", "b", "b"])
    gallery.remove([1])
    names = {path.name for path in gallery.folder.iterdir()}
    assert names == {"gallery.json", "vectors-0.f32", "entries-0.jsonl"}
    manifest = json.loads((gallery.folder / "gallery.json").read_text())
    assert (manifest["rows"], manifest["next_id"], manifest["feature_dim"]) == (3, 3, DIM)
    stored = np.fromfile(gallery.folder / "vectors-0.f32", "<f4").reshape(3, DIM)
    np.testing.assert_array_equal(stored, rows(3))
    lines = [json.loads(line) for line in (gallery.folder / "entries-0.jsonl").read_text().splitlines()]
    assert lines == [{"add": [0, 1, 2], "labels": ["a", "b", "b"], "sources": ["", "", ""]}, {"remove": [1]}]


def test_removed_rows_give_their_space_back(gallery, monkeypatch):
    monkeypatch.setattr(gallery_store, "COMPACT_MINIMUM", 10)
    watcher = Gallery.open(gallery.folder)
    gallery.add(rows(20), [str(number) for number in range(20)])
    assert len(watcher) == 20
    gallery.remove(range(0, 20, 2))
    assert (gallery.folder / "vectors-1.f32").stat().st_size == 10 * DIM * 4
    assert not (gallery.folder / "vectors-0.f32").exists()
    assert gallery.add(rows(1, 5), ["new"]) == [20]
    for handle in (watcher, gallery, Gallery.open(gallery.folder)):
        assert [entry.id for entry in handle.entries()] == [*range(1, 20, 2), 20]
        ids, found, scores = handle.search(rows(20)[[7]], 1)
        assert (ids.tolist(), found) == ([[7]], [["7"]]) and scores[0, 0] == pytest.approx(1)


def test_search_is_exact_in_small_blocks_and_orders_ties_by_id(gallery):
    data = np.concatenate([rows(700), rows(300)])  # 300 rows twice
    gallery.add(data, [""] * 1000)
    gallery.remove([5, 705])
    ids, _, scores = gallery.search(rows(40), 4)
    small = gallery.search(rows(40), 4, block_bytes=1)
    np.testing.assert_array_equal(ids, small[0])
    np.testing.assert_array_equal(scores, small[2])
    alive = np.delete(np.arange(1000), [5, 705])
    index, expected = top_k(rows(40), data[alive], 4)
    np.testing.assert_array_equal(ids, alive[index])
    np.testing.assert_allclose(scores, expected, atol=1e-6)
    assert ids[3, :2].tolist() == [3, 703]  # the same embedding twice: the older one first


def test_more_neighbours_than_images(gallery):
    ids, found, scores = gallery.search(rows(2), 5)
    assert ids.shape == scores.shape == (2, 0) and found == [[], []]
    gallery.add(rows(1), ["only"])
    ids, found, _ = gallery.search(rows(2), 5)
    assert ids.tolist() == [[0], [0]] and found == [["only"], ["only"]]


@pytest.mark.parametrize(
    ("embeddings", "names", "message"),
    [
        (np.ones((1, 5)), ["a"], "embeddings of 5 numbers do not fit"),
        (np.ones((2, DIM)), ["a"], "2 embeddings, 1 labels"),
        (np.ones((1, DIM)), [7], "must be text"),
        (np.full((1, DIM), np.nan), ["a"], "NaN or infinity"),
        (np.full((1, DIM), 1e300), ["a"], "NaN or infinity"),
        (np.ones(DIM), ["a"], r"shape \(4,\)"),
        (np.ones((0, DIM)), ["a"], "both above 0"),
    ],
)
def test_rows_that_do_not_fit(gallery, embeddings, names, message):
    with pytest.raises(UserError, match=message):
        gallery.add(embeddings, names)
    assert len(gallery) == 0 and gallery.add(np.empty((0, DIM)), []) == []


def test_searches_that_do_not_fit(gallery):
    gallery.add(rows(1), ["a"])
    for query, k, message in (
        (rows(1), 0, "k is 0"),
        (np.ones((1, 5)), 1, "columns"),
        (np.full((1, DIM), np.inf), 1, "NaN"),
    ):
        with pytest.raises(UserError, match=message):
            gallery.search(query, k)
    with pytest.raises(UserError, match="whole numbers"):
        gallery.remove([0.5])
    with pytest.raises(UserError, match="holds no image with id 1"):
        gallery.embeddings([0, 1])


def test_a_gallery_of_another_model_is_refused(gallery, tmp_path):
    with pytest.raises(UserError, match="made with another model"):
        Gallery.open(gallery.folder, "other")
    for path in gallery.folder.iterdir():
        path.unlink()
    Gallery.create(gallery.folder, DIM, "other")
    with pytest.raises(UserError, match="replaced by one of another model"):
        gallery.add(rows(1), ["a"])


def test_a_gallery_built_anew_is_read_anew(gallery):
    gallery.add(rows(2), ["a", "b"])
    for path in gallery.folder.iterdir():
        path.unlink()
    Gallery.create(gallery.folder, DIM, "model").add(rows(3, 1), ["x", "y", "z"])
    assert [entry.label for entry in gallery.entries()] == ["x", "y", "z"]
    np.testing.assert_array_equal(gallery.embeddings([0]), rows(3, 1)[:1])


def test_where_no_gallery_can_be(gallery, tmp_path):
    with pytest.raises(UserError, match="holds a gallery already"):
        Gallery.create(gallery.folder, DIM, "model")
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "letter.txt").write_text("dear …")
    with pytest.raises(UserError, match="holds other files"):
        Gallery.create(tmp_path / "used", DIM, "model")
    with pytest.raises(UserError, match="holds no gallery"):
        Gallery.open(tmp_path / "used")
    with pytest.raises(UserError, match="cannot make folder"):
        Gallery.create(tmp_path / "used" / "letter.txt", DIM, "model")
    with pytest.raises(UserError, match="feature_dim is 0"):
        Gallery.create(tmp_path / "new", 0, "model")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gallery.json", "{", "cannot read"),
        ("gallery.json", "[]", "gallery.json"),
        ("gallery.json", '{"format": 2, "feature_dim": 4, "model_digest": "m"}', "format"),
        ("vectors-0.f32", "ab", "damaged"),
        ("entries-0.jsonl", "ab", "cut off"),
        ("entries-0.jsonl", "x" * 200, "not JSON lines"),
        ("entries-0.jsonl", '{"add": [0], "labels": ["a"], "sources": [""]}' + " " * 50, "1 entries for 2 rows"),
        ("vectors-0.f32", None, "missing"),
    ],
)
def test_a_damaged_gallery_says_so(gallery, name, content, message):
    gallery.add(rows(2), ["a", "b"])
    path = gallery.folder / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        Gallery.open(gallery.folder)
    assert "\n" not in str(caught.value)


def test_a_gallery_that_is_gone(gallery):
    for path in gallery.folder.iterdir():
        path.unlink()
    gallery.folder.rmdir()
    for attempt in (lambda: len(gallery), lambda: gallery.add(rows(1), ["a"]), lambda: gallery.remove([0])):
        with pytest.raises(UserError, match="holds no gallery"):
            attempt()


def test_formats_of_one_export_share_galleries_and_other_networks_do_not():
    source = SourceSpec(checkpoint="c", digest="1", epoch=1, arch={"depth": 18}, classes_dropped=0)
    model = ExportedModel(
        input=InputSpec(height=8, width=4), output=OutputSpec(name="y", feature_dim=4), source=source, graphs=[]
    )
    same = model.model_copy(
        update={
            "graphs": [GraphFile(kind="onnx", model="m.onnx", precision="int8")],
            "output": OutputSpec(name="z", feature_dim=4, normalised=True),
            "input": InputSpec(height=8, width=4, layout="NHWC"),
        }
    )
    assert model_digest(same) == model_digest(model)
    for changes in (
        {"source": source.model_copy(update={"digest": "2"})},
        {"input": InputSpec(height=16, width=4)},
        {"output": OutputSpec(name="y", feature_dim=4, feature="global")},
    ):
        assert model_digest(model.model_copy(update=changes)) != model_digest(model)
