"""Figures are written, have the promised size and colours, and refuse what does not fit."""

import numpy as np
import pytest
from PIL import Image

from ppcls.engine import figures
from ppcls.utils.errors import UserError

GREY = np.full((20, 10, 3), 128, np.uint8)


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def has(image, colour):
    return bool((image == np.array(colour, np.uint8)).all(axis=-1).any())


def test_contact_sheet(tmp_path):
    source = tmp_path / "one.png"
    Image.fromarray(np.full((8, 4, 3), (10, 200, 30), np.uint8)).save(source)
    path = figures.contact_sheet([GREY, source, str(source)], ["a", "b", "a very long title"], tmp_path / "s.png", 2)
    sheet = pixels(path)
    assert has(sheet, (128, 128, 128)) and has(sheet, (10, 200, 30))
    assert sheet.shape[0] > 2 * 128 and 2 * 64 < sheet.shape[1] < 3 * 64
    single = pixels(figures.contact_sheet([GREY], None, tmp_path / "t.png"))
    assert single.shape[1] < 2 * 64


def test_rank_list_frames(tmp_path):
    arguments = ([GREY], [[GREY, GREY, GREY]], [[True, False, False]])
    page = pixels(figures.rank_list(*arguments, tmp_path / "r.png", junk=[[False, False, True]], ap=[0.5]))
    assert all(has(page, c) for c in (figures.RIGHT, figures.WRONG, figures.IGNORED, figures.QUERY))
    page = pixels(figures.rank_list([GREY], [[GREY]], [[True]], tmp_path / "q.png", ap=[float("nan")]))
    assert has(page, figures.RIGHT) and not has(page, figures.WRONG)


def test_plots_are_written(tmp_path):
    matrix = np.array([[60, np.nan], [50, 70.0]])
    written = [
        figures.matrix_heatmap(matrix, ["a", "b"], ["a", "b"], "mAP", tmp_path / "m.png"),
        figures.curves({"x": ([1, 2], [3, 4]), "y": ([1, 2], [4, 3])}, "epoch", "mAP", tmp_path / "c.png"),
        figures.bars({"GD": {"mAP": (40, 1)}, "AD": {"mAP": (45, 0)}}, "%", tmp_path / "b.png", title="t"),
    ]
    for path in written:
        image = pixels(path)
        assert min(image.shape[:2]) > 200 and image.std() > 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.png", "c.png", "m.png"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda path: figures.contact_sheet([], None, path), "no image"),
        (lambda path: figures.contact_sheet([GREY], ["a", "b"], path), "2 titles"),
        (lambda path: figures.contact_sheet([path / "absent.jpg"], None, path / "s.png"), "absent.jpg"),
        (lambda path: figures.contact_sheet([GREY.astype(float)], None, path / "s.png"), "uint8"),
        (lambda path: figures.rank_list([GREY], [[GREY]], [[True, False]], path / "r.png"), "different lengths"),
        (lambda path: figures.rank_list([], [], [], path / "r.png"), "at least one query"),
        (lambda path: figures.matrix_heatmap(np.eye(2), ["a"], ["b"], "", path / "m.png"), "rows"),
        (lambda path: figures.curves({"x": ([1], [1, 2])}, "", "", path / "c.png"), "x values"),
        (lambda path: figures.bars({"a": {"m": (1, 0)}, "b": {}}, "", path / "b.png"), "same figures"),
    ],
)
def test_errors(tmp_path, call, message):
    with pytest.raises(UserError, match=message):
        call(tmp_path)
