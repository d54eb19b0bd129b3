"""Lite data on disk: layout, determinism, safe writes, errors."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ppcls.data.lite import make_lite_data
from ppcls.data.lite.writer import extras
from ppcls.utils.errors import UserError

SMALL = {"ids": 3, "test_ids": 2, "cams": 2, "images_per_cam": 2, "height": 64, "width": 32, "seed": 7}
NAME = re.compile(r"(-1|\d{4})_c(\d{1,2})s1_(\d{6})_(\d{2})\.jpg")
COMMAND = Path(__file__).parents[2] / "tools" / "make_lite_data.py"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.jpg"))}


def parsed(folder: Path) -> list[tuple[int, int]]:
    matches = [NAME.fullmatch(p.name) for p in sorted(folder.iterdir())]
    assert all(matches)
    return [(int(m[1]), int(m[2])) for m in matches]


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    return make_lite_data(tmp_path_factory.mktemp("lite"), ["market"], **SMALL)["market"]


def test_every_split_has_the_people_and_cameras_asked_for(small):
    train, query = parsed(small / "bounding_box_train"), parsed(small / "query")
    gallery = parsed(small / "bounding_box_test")
    assert sorted(train) == [(pid, cam) for pid in (1, 3, 5) for cam in (1, 1, 2, 2)]
    assert sorted(query) == [(pid, cam) for pid in (2, 4) for cam in (1, 2)]
    assert sorted(g for g in gallery if g[0] > 0) == [(pid, cam) for pid in (2, 4) for cam in (1, 2)]
    distractors, junk = extras(SMALL["test_ids"])
    assert sum(pid == 0 for pid, _ in gallery) == distractors > 0
    assert sum(pid == -1 for pid, _ in gallery) == junk > 0


def test_pictures_have_the_size_asked_for_and_no_two_are_equal(small):
    from PIL import Image

    files = sorted(small.rglob("*.jpg"))
    for file in files:
        with Image.open(file) as image:
            assert (image.size, image.mode, image.format) == ((32, 64), "RGB", "JPEG")
    assert len({file.read_bytes() for file in files}) == len(files)


def test_the_same_parameters_give_the_same_bytes_in_another_process(small, tmp_path):
    flags = [f for k, v in SMALL.items() for f in (f"--{k.replace('_', '-')}", str(v))]
    call = [sys.executable, str(COMMAND), "--out", str(tmp_path), "--domains", "msmt17", "market", *flags]
    subprocess.run(call, check=True, capture_output=True, timeout=120)
    assert contents(tmp_path / "market") == contents(small)


def test_another_seed_gives_other_pictures(small, tmp_path):
    other = make_lite_data(tmp_path, ["market"], **{**SMALL, "seed": 8})["market"]
    assert not set(contents(other).values()) & set(contents(small).values())


@pytest.mark.parametrize("more", [{"ids": 5}, {"test_ids": 4}, {"cams": 3}, {"images_per_cam": 3}])
def test_asking_for_more_changes_no_earlier_picture_of_a_person(small, tmp_path, more):
    larger = contents(make_lite_data(tmp_path, ["market"], **{**SMALL, **more})["market"])
    people = {name: data for name, data in contents(small).items() if "/-1_" not in name and "/0000_" not in name}
    assert people.items() <= larger.items()
    assert len(larger) > len(contents(small))


def test_cameras_may_have_two_digits(tmp_path):
    folder = make_lite_data(tmp_path, ["msmt17"], **{**SMALL, "ids": 2, "cams": 11, "height": 32, "width": 16})
    assert {cam for _, cam in parsed(folder["msmt17"] / "query")} == set(range(1, 12))


def test_a_second_run_is_a_no_op(small):
    before = {p: p.stat().st_mtime_ns for p in small.rglob("*")}
    assert make_lite_data(small.parent, ["market"], **SMALL) == {"market": small}
    assert {p: p.stat().st_mtime_ns for p in small.rglob("*")} == before


def test_other_parameters_are_refused_unless_forced(tmp_path):
    make_lite_data(tmp_path, ["market"], **SMALL)
    with pytest.raises(UserError, match=r"seed 7 ≠ 9.*--force"):
        make_lite_data(tmp_path, ["market"], **{**SMALL, "seed": 9})
    make_lite_data(tmp_path, ["market"], **{**SMALL, "seed": 9, "ids": 2}, force=True)
    manifest = json.loads((tmp_path / "market" / "lite.json").read_text())
    assert (manifest["parameters"]["seed"], manifest["images"]["bounding_box_train"]) == (9, 8)
    assert len(parsed(tmp_path / "market" / "bounding_box_train")) == 8
    assert [p.name for p in tmp_path.iterdir()] == ["market"]


def test_missing_files_are_reported_and_force_restores_them(tmp_path):
    folder = make_lite_data(tmp_path, ["market"], **SMALL)["market"]
    before = contents(folder)
    next((folder / "query").iterdir()).unlink()
    with pytest.raises(UserError, match="holds 3 of its 4 images"):
        make_lite_data(tmp_path, ["market"], **SMALL)
    make_lite_data(tmp_path, ["market"], **SMALL, force=True)
    assert contents(folder) == before


def test_force_never_removes_what_is_not_lite_data(tmp_path):
    photo = tmp_path / "market" / "query" / "0001_c1s1_000001_00.jpg"
    photo.parent.mkdir(parents=True)
    photo.write_bytes(b"a real photograph")
    for force in (False, True):
        with pytest.raises(UserError, match="not lite data"):
            make_lite_data(tmp_path, ["market"], **SMALL, force=force)
    assert photo.read_bytes() == b"a real photograph"


@pytest.mark.parametrize("text", ["{", "[]", '{"made_by": "someone else", "images": {}, "parameters": {}}'])
def test_a_manifest_of_another_kind_is_refused(tmp_path, text):
    (tmp_path / "market").mkdir()
    (tmp_path / "market" / "lite.json").write_text(text)
    for force in (False, True):
        with pytest.raises(UserError, match=r"lite\.json"):
            make_lite_data(tmp_path, ["market"], **SMALL, force=force)


def test_a_failure_leaves_neither_half_a_domain_nor_the_loss_of_the_old_one(tmp_path, monkeypatch):
    from ppcls.data.lite.picture import Studio

    folder = make_lite_data(tmp_path, ["market"], **SMALL)["market"]
    before = contents(folder)

    def full_disk(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Studio, "picture", full_disk)
    for domain in ("market", "msmt17"):
        with pytest.raises(UserError, match="No space left"):
            make_lite_data(tmp_path, [domain], **{**SMALL, "seed": 1}, force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["market"]
    assert contents(folder) == before


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"domains": ["paris"]}, "paris"),
        ({"domains": []}, "--domains"),
        ({"ids": 1}, "--ids 1"),
        ({"ids": 5000}, "--ids 5000"),
        ({"test_ids": 0}, "--test-ids 0"),
        ({"cams": 1}, "--cams 1"),
        ({"cams": 100}, "--cams 100"),
        ({"images_per_cam": 1}, "--images-per-cam 1"),
        ({"height": 8}, "--height 8"),
        ({"width": 0}, "--width 0"),
        ({"seed": -1}, "--seed -1"),
    ],
)
def test_bad_values_name_the_flag_and_write_nothing(tmp_path, flags, message):
    with pytest.raises(UserError, match=re.escape(message)):
        make_lite_data(tmp_path / "out", **{"domains": ["market"], **SMALL, **flags})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flags", [["--ids", "0"], ["--ids", "many"], ["--domains", "paris"], ["--colour"]])
def test_the_command_ends_with_status_2_on_bad_flags(tmp_path, flags):
    call = [sys.executable, str(COMMAND), "--out", str(tmp_path / "out"), *flags]
    done = subprocess.run(call, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "error:" in done.stderr and "Traceback" not in done.stderr
