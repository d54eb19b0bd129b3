"""Lists of images in text files."""

from __future__ import annotations

import pytest

from ppcls.engine.gallery_job import labelled_images
from ppcls.retrieval import find_images
from ppcls.retrieval.image_list import read_image_list
from ppcls.utils.errors import UserError


def test_paths_start_at_the_list_and_may_have_labels(tmp_path):
    source = tmp_path / "liste.txt"
    source.write_text("\ufeffa b.jpg\r\n\r\nété/ü.png\tAnna Ö\n/abs/c.jpg\t7\n", encoding="utf-8")
    assert read_image_list(source) == [
        (tmp_path / "a b.jpg", None),
        (tmp_path / "été/ü.png", "Anna Ö"),
        (tmp_path.__class__("/abs/c.jpg"), "7"),
    ]
    assert find_images(source) == [path for path, _ in read_image_list(source)]


def test_folders_may_be_called_like_lists_and_images(tmp_path):
    folder = tmp_path / "photos.txt"
    (folder / "b.jpg").mkdir(parents=True)
    for name in ("a.jpg", "b.jpg/c.png"):
        (folder / name).touch()
    assert find_images(folder) == [folder / "a.jpg", folder / "b.jpg/c.png"]
    assert labelled_images(str(folder), "folder") == {folder / "a.jpg": "photos.txt", folder / "b.jpg/c.png": "b.jpg"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lists no image"),
        (b"\n \n", "lists no image"),
        (b"\xff\xfe", "cannot read"),
        (b"a.jpg\t\n", "line 'a.jpg"),
    ],
)
def test_files_that_are_no_list(tmp_path, content, message):
    (tmp_path / "l.txt").write_bytes(content)
    with pytest.raises(UserError, match=message):
        find_images(tmp_path / "l.txt")


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot read the image list"):
        find_images(tmp_path / "l.txt")
