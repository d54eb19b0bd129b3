"""Lite data on disk: folders, file names, the manifest, and a write that is whole or not there.

Layout per domain, as Market-1501 has it::

    <out>/<domain>/bounding_box_train/{pid:04d}_c{cam}s1_{frame:06d}_{k:02d}.jpg     odd pids
    <out>/<domain>/query/                                                            even pids, one per camera
    <out>/<domain>/bounding_box_test/                    even pids' other pictures, distractors (0000), junk (-1)
    <out>/<domain>/lite.json                                                         the parameters
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ppcls.data.lite.domain import DOMAINS
from ppcls.data.lite.picture import Studio
from ppcls.utils.errors import UserError
from ppcls.utils.logger import get_logger
from ppcls.utils.seeding import derive

MANIFEST = "lite.json"
TRAIN, QUERY, GALLERY = "bounding_box_train", "query", "bounding_box_test"
DEFAULT_DOMAINS = ("market", "msmt17")

# Changes with the drawing: data of another version is not "the same parameters".
VERSION = 1

_LIMITS = {
    "ids": (2, 4999),
    "test_ids": (2, 4999),
    "cams": (2, 99),
    "images_per_cam": (2, 99),
    "height": (32, 1024),
    "width": (16, 1024),
    "seed": (0, 2**63 - 1),
}


@dataclass(frozen=True)
class _Shot:
    """One file to be written: where, and what it shows."""

    path: str
    role: str
    number: int
    cam: int
    k: int
    empty: bool = False


def make_lite_data(
    out: str | Path,
    domains: Sequence[str] = DEFAULT_DOMAINS,
    ids: int = 48,
    test_ids: int = 32,
    cams: int = 4,
    images_per_cam: int = 3,
    height: int = 128,
    width: int = 64,
    seed: int = 0,
    force: bool = False,
) -> dict[str, Path]:
    """Write synthetic pedestrians as JPEG files and return ``{domain: folder}``.

    Args:
        out: the data root; one folder per domain is made in it.
        domains: names out of market, msmt17, duke, cuhk03.
        ids, test_ids: how many people are in the training split and in query and gallery (no one is in both).
        cams, images_per_cam: every person is seen ``images_per_cam`` times by each of the cameras 1…cams.
        height, width: of the pictures, in pixels.
        seed: the same parameters give byte-identical files, whatever else is made beside them.
        force: rewrite a domain that was made with other parameters.

    A domain that is there already with the same parameters is left as it is. Each domain is written to a folder
    beside its final one and renamed when it is whole.

    Raises:
        UserError: a value out of range, an unknown domain, a folder that holds something else.
    """
    parameters = {
        "ids": ids,
        "test_ids": test_ids,
        "cams": cams,
        "images_per_cam": images_per_cam,
        "height": height,
        "width": width,
        "seed": seed,
    }
    _check(domains, parameters)
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file; --out must name a folder")
    todo = [name for name in dict.fromkeys(domains) if not _up_to_date(out / name, name, parameters, force)]
    for name in todo:
        _write_domain(out, name, parameters)
    return {name: out / name for name in dict.fromkeys(domains)}


def _check(domains: Sequence[str], parameters: dict[str, int]) -> None:
    if isinstance(domains, str) or not domains:
        raise UserError(f"--domains needs one or more of {', '.join(DOMAINS)}")
    for name in domains:
        if name not in DOMAINS:
            raise UserError(f"--domains: no lite domain {name!r}; choose from {', '.join(DOMAINS)}")
    for key, (low, high) in _LIMITS.items():
        value = parameters[key]
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            flag = "--" + key.replace("_", "-")
            raise UserError(f"{flag} {value}: must be a whole number from {low} to {high}")


def _record(name: str, parameters: dict[str, int]) -> dict:
    return {"made_by": "make_lite_data", "version": VERSION, "domain": name, "parameters": parameters}


def _up_to_date(folder: Path, name: str, parameters: dict[str, int], force: bool) -> bool:
    """True when the folder holds these data; False when it may be written; else an error."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    manifest = folder / MANIFEST
    if not folder.is_dir() or not manifest.is_file():
        raise UserError(f"{folder} holds something that is not lite data; choose another --out or move it away")
    try:
        found = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{manifest} cannot be read ({error}); remove {folder} and make it again") from error
    wanted = _record(name, parameters)
    ours = (
        isinstance(found, dict) and isinstance(found.get("images"), dict) and isinstance(found.get("parameters"), dict)
    )
    if not ours or found.get("made_by") != wanted["made_by"]:
        raise UserError(f"{manifest} is not a manifest of make_lite_data; choose another --out or move {folder} away")
    same = all(found.get(key) == value for key, value in wanted.items())
    if same and not force:
        _check_counts(folder, found)
        get_logger().info("%s: up to date", folder)
        return True
    if not force:
        raise UserError(
            f"{folder} holds lite data of other parameters ({_differences(found, wanted)}); "
            "pass --force to rewrite it or choose another --out"
        )
    return False


def _check_counts(folder: Path, found: dict) -> None:
    for split, count in found["images"].items():
        there = sum(1 for _ in (folder / split).glob("*.jpg"))
        if there != count:
            raise UserError(
                f"{folder / split} holds {there} of its {count} images; pass --force to make the domain again"
            )


def _differences(found: dict, wanted: dict) -> str:
    old, new = found["parameters"], wanted["parameters"]
    changed = [f"{key} {old.get(key)} ≠ {value}" for key, value in new.items() if old.get(key) != value]
    return ", ".join(changed) or "another version of the tool"


def _write_domain(out: Path, name: str, parameters: dict[str, int]) -> None:
    folder, partial = out / name, out / f".{name}.partial-{os.getpid()}"
    old = out / f".{name}.old-{os.getpid()}"
    try:
        for split in (TRAIN, QUERY, GALLERY):
            (partial / split).mkdir(parents=True)
        images = _draw_all(partial, name, parameters)
        record = {**_record(name, parameters), "images": images}
        (partial / MANIFEST).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rename(old)
        partial.rename(folder)
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if old.exists() and not folder.exists():
            old.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    get_logger().info("%s: %s", folder, ", ".join(f"{count} in {split}" for split, count in images.items()))


def _draw_all(partial: Path, name: str, parameters: dict[str, int]) -> dict[str, int]:
    """Draw every file of a domain; returns the number of images per split."""
    studio = Studio(DOMAINS[name], parameters["cams"], parameters["height"], parameters["width"], parameters["seed"])
    shots = list(_shots(name, parameters))
    counts = dict.fromkeys((TRAIN, QUERY, GALLERY), 0)
    person, key = None, None
    for shot in tqdm(shots, desc=name, unit="image", leave=False, disable=None):
        if key != (shot.role, shot.number):
            person, key = studio.person(shot.role, shot.number), (shot.role, shot.number)
        data = studio.picture(shot.role, shot.number, None if shot.empty else person, shot.cam, shot.k)
        (partial / shot.path).write_bytes(data)
        counts[shot.path.split("/")[0]] += 1
    return counts


def _shots(name: str, parameters: dict[str, int]) -> Iterator[_Shot]:
    cams, per_cam, seed = parameters["cams"], parameters["images_per_cam"], parameters["seed"]
    train = [2 * i + 1 for i in range(parameters["ids"])]
    test = [2 * i + 2 for i in range(parameters["test_ids"])]
    for pid in train + test:
        for cam in range(1, cams + 1):
            # A passage's pictures follow one another at 12 frames' distance from a moment of their own.
            first = derive(seed, "lite", name, pid, cam, "frame") % 900_000
            for k in range(per_cam):
                split = TRAIN if pid % 2 else QUERY if k == 0 else GALLERY
                path = f"{split}/{pid:04d}_c{cam}s1_{first + 12 * k:06d}_{k:02d}.jpg"
                yield _Shot(path, "person", pid, cam, k)
    strangers, junk = extras(parameters["test_ids"])
    for i in range(strangers):
        cam = derive(seed, "lite", name, i, "stranger") % cams + 1
        # Every fifth is a false alarm of the detector: no one is there.
        yield _Shot(f"{GALLERY}/0000_c{cam}s1_{100 * i + 1:06d}_00.jpg", "distractor", i, cam, 0, empty=i % 5 == 4)
    for i in range(junk):
        cam = derive(seed, "lite", name, i, "junk") % cams + 1
        yield _Shot(f"{GALLERY}/-1_c{cam}s1_{100 * i + 51:06d}_00.jpg", "junk", 10_000 + i, cam, 0)


def extras(test_ids: int) -> tuple[int, int]:
    """How many distractors (pid 0) and junk boxes (pid −1) a gallery of ``test_ids`` people gets."""
    return max(5, test_ids), max(4, test_ids // 2)
