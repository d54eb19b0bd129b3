"""Whole jobs: exact counts, resume after every kind of interruption, shards, foreign folders, reports."""

import collections
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest
from PIL import Image

from ppcls.data.dreamed import open_dreamed
from ppcls.inversion import list_images, read_manifests
from ppcls.inversion.archive import Archive, image_name
from ppcls.inversion.synthesizer import normalise
from ppcls.utils.errors import UserError
from tests.inversion import tiny
from tests.inversion.tiny import TinyNet, at_event, contents, run


class Interruption(Exception):
    pass


def interrupt():
    raise Interruption


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a job that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole") / "dreams"
    run(folder)
    return folder


def judge(path, target):
    """The tiny teacher's probability of ``target`` and whether it is the first choice, from the file."""
    net = TinyNet()
    net.eval()
    with Image.open(path) as image, paddle.no_grad():
        logits = net(paddle.to_tensor(normalise(np.asarray(image)[None]))).logits.numpy()[0].astype(np.float64)
    exponents = np.exp(logits - logits.max())
    return exponents[target] / exponents.sum(), logits.argmax() == target


def images_of(folder):
    return {path.name: path.read_bytes() for path in list_images(folder)}


def test_exact_counts_records_and_report(whole):
    names = list(images_of(whole))
    assert collections.Counter(name.split("_")[0] for name in names) == {str(i): 2 for i in range(5)}
    records = read_manifests(whole)
    assert sorted(record.file for record in records) == sorted(names)
    assert [record.batch for record in records] == [0] * 4 + [1] * 4 + [2] * 2
    for record in records:
        assert record.file == image_name(record.target, (whole / record.file).read_bytes())
        assert record.steps == [5, 4] and record.seed == 3
        assert record.confidence == pytest.approx(np.exp(-record.ce), rel=1e-4)
    samples = open_dreamed(whole)
    assert len(samples) == 10 and {sample.pid for sample in samples} == set(range(5))
    quality = json.loads((whole / "report" / "quality.json").read_text())
    assert quality["images"] == 10 and quality["images_per_class"] == [2, 2]
    confidence, hits = zip(*(judge(whole / name, int(name.split("_")[0])) for name in names), strict=True)
    assert quality["accuracy"] == pytest.approx(np.mean(hits))
    assert quality["confidence"] == pytest.approx(np.mean(confidence), rel=1e-5)
    with Image.open(whole / "report" / "contact_sheet.png") as sheet:
        assert sheet.height > 5 * 128
    leftovers = {path.name for path in whole.iterdir()} - set(names)
    assert leftovers == {"dream.json", "manifest.jsonl", "report"}


@pytest.mark.parametrize(
    ("event", "count"),
    [
        ("step", 1),
        ("step", 5),
        ("step", 7),
        ("step", 13),
        ("image", 1),
        ("image", 3),
        ("image", 9),
        ("commit", 1),
        ("commit", 3),
    ],
)
def test_resume_after_an_exception_gives_the_same_folder(whole, tmp_path, monkeypatch, event, count):
    folder = tmp_path / "dreams"
    with monkeypatch.context() as patch, pytest.raises(Interruption):
        run(folder, callback=at_event(event, count, interrupt, patch.setattr))
    report = run(folder)
    assert report.complete and report.images == 10
    assert contents(folder) == contents(whole)


def test_interruptions_without_end(whole, tmp_path, monkeypatch):
    """One step at a time: every call makes a step (kept by a snapshot) and dies."""
    folder = tmp_path / "dreams"
    for _ in range(27 + 3):
        with monkeypatch.context() as patch:
            try:
                run(folder, callback=at_event("step", 2, interrupt, patch.setattr))
            except Interruption:
                continue
            break
    else:
        pytest.fail("the job does not get on")
    assert contents(folder) == contents(whole)


@pytest.mark.slow
@pytest.mark.parametrize(("event", "count"), [("step", 12), ("image", 6), ("commit", 2)])
def test_resume_after_sigkill_gives_the_same_folder(whole, tmp_path, event, count):
    folder = tmp_path / "dreams"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-m", "tests.inversion.tiny", str(folder), event, str(count)]
    result = subprocess.run(command, cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, check=False)
    assert result.returncode == -signal.SIGKILL
    assert len(read_manifests(folder)) < 10
    assert run(folder).images == 10
    assert contents(folder) == contents(whole)


def test_half_a_record_and_half_an_image(whole, tmp_path, monkeypatch):
    """What a power cut leaves: a cut-off manifest line, a truncated image, stray temporary files."""
    folder = tmp_path / "dreams"
    with monkeypatch.context() as patch, pytest.raises(Interruption):
        run(folder, callback=at_event("commit", 2, interrupt, patch.setattr))
    lines = json.loads((folder / "journal-1.json").read_text())
    with (folder / "manifest.jsonl").open("a") as manifest:
        manifest.write(lines[0] + "\n" + lines[1][:30])
    victim = folder / json.loads(lines[2])["file"]
    victim.write_bytes(victim.read_bytes()[:100])
    (folder / f".{victim.stem}.xyz.part.jpg").write_bytes(b"half")
    (folder / ".state-1.xyz.part.npz").write_bytes(b"half")
    run(folder)
    assert contents(folder) == contents(whole)


def test_images_written_before_a_kill_are_adopted_without_dreaming_again(whole, tmp_path, monkeypatch):
    folder = tmp_path / "dreams"
    with monkeypatch.context() as patch, pytest.raises(Interruption):
        run(folder, callback=at_event("commit", 3, interrupt, patch.setattr))
    steps = []
    report = run(folder, callback=steps.append)
    assert not steps and report.dreamed == 0 and report.complete
    assert contents(folder) == contents(whole)


def test_a_deleted_image_is_dreamed_again(whole, tmp_path):
    folder = tmp_path / "dreams"
    shutil.copytree(whole, folder)
    list_images(folder)[4].unlink()
    assert run(folder).dreamed in (2, 4)
    assert images_of(folder) == images_of(whole)


@pytest.mark.parametrize("num_shards", [2, 5])
def test_shards_make_the_same_set(whole, tmp_path, num_shards):
    folder = tmp_path / "dreams"
    reports = [run(folder, num_shards=num_shards, shard=shard) for shard in reversed(range(num_shards))]
    assert not reports[-2].complete and reports[-1].complete and reports[-1].images == 10
    assert images_of(folder) == images_of(whole)
    assert read_manifests(folder) == read_manifests(whole)
    assert (folder / "report" / "quality.json").read_bytes() == (whole / "report" / "quality.json").read_bytes()


def test_a_killed_sharded_job_goes_on_in_one_process(whole, tmp_path, monkeypatch):
    folder = tmp_path / "dreams"
    run(folder, num_shards=2, shard=1)
    with monkeypatch.context() as patch, pytest.raises(Interruption):
        run(folder, num_shards=2, shard=0, callback=at_event("image", 2, interrupt, patch.setattr))
    run(folder)
    assert images_of(folder) == images_of(whole)


def test_the_split_into_snapshots_and_calls_does_not_matter(whole, tmp_path):
    folder = tmp_path / "dreams"
    first = run(folder, iters=1, snapshot_seconds=1e9)
    assert (first.images, first.missing, first.complete) == (4, 6, True)
    run(folder, iters=2)
    assert run(folder).missing == 0
    assert images_of(folder) == images_of(whole)


def test_too_few_batches_are_announced(tmp_path, caplog):
    logger = logging.getLogger("dream-test")
    with caplog.at_level(logging.INFO, logger="dream-test"):
        run(tmp_path / "dreams", iters=1, report=False, logger=logger)
    assert "leaves 6 images missing; 3 batches would make them all" in caplog.text
    assert "[0][9/9]: Total Loss: " in caplog.text and "==> Finish Generation No. 0" in caplog.text


def test_another_seed_makes_other_images(whole, tmp_path):
    run(tmp_path / "dreams", seed=4, report=False)
    assert not set(images_of(tmp_path / "dreams")) & set(images_of(whole))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 4}, "seed 3 there, 4 asked"),
        ({"shots": 9}, "shots 2 there, 9 asked"),
        ({"jpeg_quality": 75}, "jpeg_quality"),
    ],
)
def test_another_job_cannot_mix_in(whole, tmp_path, changes, told):
    folder = tmp_path / "dreams"
    shutil.copytree(whole, folder)
    before = contents(folder)
    with pytest.raises(UserError, match=told):
        run(folder, **changes)
    assert contents(folder) == before


def test_another_teacher_cannot_mix_in(whole, tmp_path):
    folder = tmp_path / "dreams"
    shutil.copytree(whole, folder)
    with pytest.raises(UserError, match="teacher '"):
        tiny.dream(TinyNet(seed=1), folder, tiny.CONFIG, **tiny.JOB)


def test_images_of_unknown_origin(tmp_path):
    folder = tmp_path / "dreams"
    folder.mkdir()
    for name in ("0_aa.jpg", "0_bb.jpg", "0_cc.jpg", "3_dd.png"):
        Image.new("RGB", (8, 16)).save(folder / name)
    with pytest.raises(UserError, match="4 images of unknown origin"):
        run(folder)
    report = run(folder, adopt=True)
    counts = collections.Counter(int(path.name.split("_")[0]) for path in list_images(folder))
    assert counts == {0: 3, 1: 2, 2: 2, 3: 2, 4: 2}
    assert report.dreamed == 7
    assert run(folder, adopt=True).dreamed == 0
    (folder / "9_ee.jpg").write_bytes(b"")
    (folder / "dream.json").unlink()
    with pytest.raises(UserError, match="class 9"):
        run(folder, adopt=True)


def test_two_processes_cannot_share_a_shard(tmp_path):
    numbers = {"shots": 1, "num_classes": 2, "batch_size": 2, "seed": 0, "settings": {}}
    with Archive(tmp_path, **numbers, num_shards=2, shard=0):
        with Archive(tmp_path, **numbers, num_shards=2, shard=1):
            pass
        for shard, num_shards in ((0, 2), (0, 1), (2, 3)):
            with pytest.raises(UserError, match="another process"):
                Archive(tmp_path, **numbers, num_shards=num_shards, shard=shard)
    with Archive(tmp_path, **numbers):
        pass
    with pytest.raises(UserError, match="shards count from 0"):
        Archive(tmp_path, **numbers, num_shards=2, shard=2)
    assert not list(tmp_path.glob(".lock*"))


def test_equal_images_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr("ppcls.inversion.job.image_name", lambda target, jpeg: f"{target}_same.jpg")
    with pytest.raises(UserError, match="holds an image twice"):
        run(tmp_path, shots=4)
    assert len(list_images(tmp_path)) == len(read_manifests(tmp_path)) == 4  # the batch before is untouched
