"""Lite data as a tar file."""

from __future__ import annotations

import hashlib
import os
import subprocess
import tarfile

import pytest

from ppcls.data.dataset import open_dataset
from ppcls.data.lite import make_lite_data, pack_lite_data
from ppcls.utils.errors import UserError

SMALL = {"ids": 2, "test_ids": 2, "cams": 2, "images_per_cam": 2, "height": 32, "width": 16}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return make_lite_data(tmp_path_factory.mktemp("data") / "lite_data", ["msmt17", "market"], **SMALL)


def test_it_unpacks_with_tar_to_the_data_that_were_packed(folders, tmp_path):
    (tmp_path / "data").mkdir()
    pack_lite_data(tmp_path / "data" / "lite_data.tar", "lite_data", folders)
    subprocess.run(["tar", "-xf", "lite_data.tar"], cwd=tmp_path / "data", check=True)
    for domain, folder in folders.items():
        unpacked = tmp_path / "data" / "lite_data" / domain
        names = sorted(path.relative_to(folder) for path in folder.rglob("*"))
        assert names == sorted(path.relative_to(unpacked) for path in unpacked.rglob("*")) and len(names) > 20
        assert all((unpacked / n).read_bytes() == (folder / n).read_bytes() for n in names if (folder / n).is_file())
        assert len(open_dataset(domain, tmp_path / "data" / "lite_data").train) == 8
    # Made again over what was unpacked: nothing to do.
    assert make_lite_data(tmp_path / "data" / "lite_data", ["msmt17", "market"], **SMALL)


def test_equal_pictures_give_equal_bytes(folders, tmp_path):
    again = make_lite_data(tmp_path / "elsewhere", ["market", "msmt17"], **SMALL)
    for path in (tmp_path / "elsewhere").rglob("*"):
        path.chmod(0o700)
        os.utime(path, (1, 1))
    digests = set()
    for name, data in (("a.tar", folders), ("b.tar", again)):
        path = pack_lite_data(tmp_path / name, "lite_data", data)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1
    with tarfile.open(tmp_path / "a.tar") as archive:
        entries = archive.getmembers()
    assert {(entry.mtime, entry.uid, entry.gid, entry.uname) for entry in entries} == {(0, 0, 0, "")}
    assert [entry.name for entry in entries[1:]] == sorted(entry.name for entry in entries[1:])


def test_wrong_places_are_errors_and_leave_nothing(folders, tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        pack_lite_data(tmp_path, "lite_data", folders)
    with pytest.raises(UserError, match="lies in"):
        pack_lite_data(folders["market"] / "x.tar", "lite_data", folders)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        pack_lite_data(tmp_path / "file" / "x.tar", "lite_data", folders)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
