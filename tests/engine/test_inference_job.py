"""Embedding and searching files with an exported model, and galleries made of them."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from PIL import Image

from ppcls.configs.evaluation import QuickOptions
from ppcls.configs.inference import GalleryOptions, InferOptions
from ppcls.configs.options import validate
from ppcls.data.transform import EvalTransform
from ppcls.engine import gallery_job
from ppcls.engine.gallery_job import change_gallery
from ppcls.engine.inference_job import infer
from ppcls.engine.predicting import embedded_batches
from ppcls.retrieval.gallery import Gallery
from ppcls.retrieval.neighbours import ListedNeighbours
from ppcls.utils.errors import UserError
from tests.retrieval.conftest import photos, pixels  # noqa: F401  fixtures


@pytest.fixture(autouse=True)
def heard(caplog, monkeypatch):
    """What the jobs log, whether or not a command has configured the logger."""
    monkeypatch.setattr(logging.getLogger("ppcls"), "propagate", True)
    caplog.set_level(logging.INFO, "ppcls")
    return caplog


def embedded(folder) -> np.ndarray:
    """What the model gives for a folder: the first six numbers of each picture."""
    transform = EvalTransform(8, 4)
    images = [transform(Image.open(path)) for path in sorted(folder.glob("*.png"))]
    return np.stack([image.ravel()[:6] for image in images])


def options(pixels, photos, tmp_path, **more) -> InferOptions:  # noqa: F811
    given = {"model_dir": str(pixels), "img_path": str(photos), "output": str(tmp_path / "e.npz"), "batch_size": 3}
    return InferOptions(**{**given, **more})


def records(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_both_files_hold_the_same_numbers(pixels, photos, tmp_path):  # noqa: F811
    assert infer(options(pixels, photos, tmp_path)).images == 7
    infer(options(pixels, photos, tmp_path, output=str(tmp_path / "e.jsonl"), workers=0))
    with np.load(tmp_path / "e.npz") as arrays:
        assert arrays["paths"].tolist() == [str(path) for path in sorted(photos.glob("*.png"))]
        np.testing.assert_array_equal(arrays["embeddings"], embedded(photos))
        lines = records(tmp_path / "e.jsonl")
        assert [line["path"] for line in lines] == arrays["paths"].tolist()
        np.testing.assert_array_equal(np.array([line["embedding"] for line in lines], np.float32), arrays["embeddings"])


def test_every_kind_of_gallery_finds_the_same(pixels, photos, tmp_path, heard):  # noqa: F811
    infer(options(pixels, photos, tmp_path, output=str(tmp_path / "gallery.npz")))
    stored = GalleryOptions(model_dir=str(pixels), img_path=str(photos), gallery=str(tmp_path / "g"))
    report = change_gallery(stored)
    assert (report.size, report.added, report.present) == (7, 7, 0)
    found = {}
    for name, source in {"folder": photos, "npz": tmp_path / "gallery.npz", "stored": tmp_path / "g"}.items():
        output = tmp_path / f"{name}.npz"
        infer(options(pixels, photos, tmp_path, gallery=str(source), top_k=9, output=str(output)))
        with np.load(output) as arrays:
            found[name] = dict(arrays)
    for name in ("npz", "stored"):
        np.testing.assert_array_equal(found[name]["nearest"], found["folder"]["nearest"])
        np.testing.assert_array_equal(found[name]["nearest_paths"], found["folder"]["nearest_paths"])
    nearest = found["folder"]
    assert nearest["nearest"].shape == (7, 7) and nearest["nearest"][:, 0].tolist() == list(range(7))
    np.testing.assert_allclose(nearest["distances"][:, 0], 0, atol=1e-6)
    assert found["stored"]["nearest_labels"][:4, 0].tolist() == ["1", "1", "1", "2"]
    assert "label 1" in heard.text and f"  {photos}" in heard.text


def test_distances_are_never_negative():
    rows = np.random.default_rng(0).normal(size=(200, 7)).astype(np.float32)
    found = ListedNeighbours([str(number) for number in range(200)], rows).find(rows, 1)
    assert found.distances.dtype == np.float32 and found.distances.min() == 0 and found.distances.max() < 1e-6
    assert found.ids[:, 0].tolist() == list(range(200))


def test_a_line_has_the_neighbours_too(pixels, photos, tmp_path, capsys):  # noqa: F811
    more = {"output": str(tmp_path / "e.jsonl"), "gallery": str(photos), "top_k": 2, "print_embeddings": True}
    infer(options(pixels, photos, tmp_path, **more))
    lines = records(tmp_path / "e.jsonl")
    first = lines[0]["nearest"][0]
    assert (
        first["id"] == 0
        and first["path"] == lines[0]["path"]
        and first["label"] == ""
        and len(lines[0]["nearest"]) == 2
    )
    printed = [line.split("\t") for line in capsys.readouterr().out.splitlines() if "\t" in line]
    assert [name for name, _ in printed] == [path.name for path in sorted(photos.glob("*.png"))]
    assert [json.loads(text)["embedding"] for _, text in printed] == [line["embedding"] for line in lines]


def test_unreadable_images_are_counted_and_left_out(pixels, photos, tmp_path, heard):  # noqa: F811
    source = tmp_path / "some"
    source.mkdir()
    for path in photos.glob("*.png"):
        (source / path.name).write_bytes(path.read_bytes())
    (source / "0001_c9.jpg").write_bytes(b"\xff\xd8\xff")
    report = infer(options(pixels, source, tmp_path, gallery=str(source)))
    assert report.images == 7 and [path.name for path, _ in report.failures] == ["0001_c9.jpg"] * 2
    assert "left out: cannot decode" in heard.text and "2 image(s) could not be read" in heard.text
    (tmp_path / "e.npz").unlink()
    with pytest.raises(UserError, match=r"0001_c9\.jpg"):
        infer(options(pixels, source, tmp_path, strict=True))
    assert not list(tmp_path.glob("*.npz")) and not list(tmp_path.glob(".*"))


def test_nothing_readable_is_a_mistake_and_writes_nothing(pixels, tmp_path, photos):  # noqa: F811
    (tmp_path / "a.jpg").write_bytes(b"text")
    with pytest.raises(UserError, match="none of the 1 images"):
        infer(options(pixels, tmp_path / "a.jpg", tmp_path))
    with pytest.raises(UserError, match="none of the images of --gallery"):
        infer(options(pixels, photos, tmp_path, gallery=str(tmp_path / "a.jpg")))
    assert not (tmp_path / "e.npz").exists()


def test_a_benchmark_reports_every_stage(pixels, photos, tmp_path, heard):  # noqa: F811
    report = infer(options(pixels, photos, tmp_path, backend="onnxruntime", benchmark=True, warmup=2, cpu_threads=1))
    assert report.benchmark["images"] == 7 and report.benchmark["inference_ms_p99"] > 0
    for line in (
        "cpu_math_library_num_threads: 1", "batch_size: 3", "input_shape: 3,8,4", "model_name: reid", "precision: fp32",
        "backend: onnxruntime", "runtime_device: cpu", "data_num: 7",
    ):  # fmt: skip
        assert f" {line}\n" in heard.text
    assert heard.messages[-1].lstrip().startswith("preprocess_time(ms): ")


def test_a_picture_shows_the_neighbours(pixels, photos, tmp_path):  # noqa: F811
    infer(options(pixels, photos, tmp_path, gallery=str(photos), picture=str(tmp_path / "p.png"), top_k=3))
    assert Image.open(tmp_path / "p.png").size[0] > 4 * 64
    gallery = Gallery.create(tmp_path / "g", 6, Gallery.open(build(pixels, photos, tmp_path / "h")).model_digest)
    gallery.add(np.ones((1, 6), np.float32), ["someone"])  # no file is known
    with pytest.raises(UserError, match="does not know the files"):
        infer(options(pixels, photos, tmp_path, gallery=str(tmp_path / "g"), picture=str(tmp_path / "q.png")))


def build(pixels, photos, folder, **more):  # noqa: F811
    change_gallery(GalleryOptions(model_dir=str(pixels), img_path=str(photos), gallery=str(folder), **more))
    return folder


def test_galleries_of_other_models_are_refused(pixels, photos, tmp_path):  # noqa: F811
    Gallery.create(tmp_path / "g", 6, "other")
    np.savez(tmp_path / "other.npz", paths=np.array(["a"]), embeddings=np.ones((1, 6)), model_digest=np.array("other"))
    np.savez(tmp_path / "size.npz", paths=np.array(["a"]), embeddings=np.ones((1, 7)))
    np.savez(tmp_path / "names.npz", images=np.array(["a"]))
    (tmp_path / "none.npz").write_text("no zip")
    for name, message in (
        ("g", "made with another model"), ("other.npz", "from another model"), ("size.npz", r"\[1, 7\]"),
        ("names.npz", "cannot read embeddings"), ("none.npz", "cannot read embeddings"), ("gone.npz", "cannot read"),
        ("gone", "no such image or folder"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message) as caught:
            infer(options(pixels, photos, tmp_path, gallery=str(tmp_path / name)))
        assert "\n" not in str(caught.value) and not (tmp_path / "e.npz").exists()


def test_a_gallery_grows_and_shrinks(pixels, photos, tmp_path, capsys):  # noqa: F811
    folder = build(pixels, photos, tmp_path / "g")
    with pytest.raises(UserError, match="holds a gallery already"):
        build(pixels, photos, folder)
    (tmp_path / "list.txt").write_text(f"{sorted(photos.glob('*.png'))[0]}\tAnna\n{make(tmp_path)}\tAnna\n")
    again = {"model_dir": str(pixels), "gallery": str(folder), "operation": "add"}
    report = change_gallery(GalleryOptions(img_path=str(tmp_path / "list.txt"), **again))
    assert (report.added, report.present, report.size) == (1, 1, 8)
    report = change_gallery(GalleryOptions(gallery=str(folder), operation="remove", remove_labels=["1"], ids=[5]))
    assert report.removed == 4 and report.size == 4
    assert change_gallery(GalleryOptions(gallery=str(folder), operation="list")).size == 4
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines() if line.count("\t") == 2]
    assert [row[:2] for row in rows] == [["3", "2"], ["4", "2"], ["6", "3"], ["7", "Anna"]]
    with pytest.raises(UserError, match="no image with label 1"):
        change_gallery(GalleryOptions(gallery=str(folder), operation="remove", remove_labels=["1"]))


def make(folder):
    path = folder / "new.png"
    Image.new("RGB", (9, 9), (200, 30, 90)).save(path)
    return path


def test_two_processes_that_add_the_same_images_add_them_once(pixels, photos, tmp_path, monkeypatch):  # noqa: F811
    build(pixels, next(photos.glob("*.png")), tmp_path / "g")
    again = {"model_dir": str(pixels), "gallery": str(tmp_path / "g"), "operation": "add", "img_path": str(photos)}

    def overtaken(*arguments):
        """As embedded_batches, but another process adds everything before the first batch is there."""
        monkeypatch.setattr(gallery_job, "embedded_batches", embedded_batches)
        assert change_gallery(GalleryOptions(**again)).added == 6
        yield from embedded_batches(*arguments)

    monkeypatch.setattr(gallery_job, "embedded_batches", overtaken)
    report = change_gallery(GalleryOptions(**again))
    assert (report.added, report.present, report.size) == (0, 7, 7)


def test_labels_of_a_gallery(pixels, photos, tmp_path):  # noqa: F811
    folder = tmp_path / "Anna Ö"
    folder.mkdir()
    make(folder)
    build(pixels, folder, tmp_path / "g", labels="folder")
    assert [entry.label for entry in Gallery.open(tmp_path / "g").entries()] == ["Anna Ö"]
    with pytest.raises(UserError, match="--labels folder"):
        build(pixels, folder, tmp_path / "h")
    assert not (tmp_path / "h").exists()
    (tmp_path / "l.txt").write_text("new.png\ta\nnew.png\tb\n")
    with pytest.raises(UserError, match="two labels, 'a' and 'b'"):
        build(pixels, tmp_path / "l.txt", tmp_path / "h")


@pytest.mark.parametrize(
    ("schema", "values", "message"),
    [
        (InferOptions, {}, "give --img-path"),
        (InferOptions, {"img_path": "a", "output": "e.txt"}, r"ends in \.npz or \.jsonl"),
        (InferOptions, {"img_path": "a", "picture": "p.png"}, "--picture needs --gallery"),
        (InferOptions, {"img_path": "a", "gallery": "g", "picture": "p.foo"}, r"p\.foo: .* ends in \.png or \.jpg"),
        (QuickOptions, {"images": "a", "gallery": "g", "picture": "picture"}, r"ends in \.png or \.jpg"),
        (InferOptions, {"img_path": "a", "batch_size": 0}, "greater than or equal to 1"),
        (GalleryOptions, {}, "build needs --img-path"),
        (GalleryOptions, {"operation": "add"}, "add needs --img-path"),
        (GalleryOptions, {"operation": "remove"}, "needs --ids or --remove-labels"),
        (GalleryOptions, {"operation": "list", "ids": [1]}, "belong to --operation remove"),
        (GalleryOptions, {"operation": "list", "img_path": "a"}, "takes no --img-path"),
    ],
)
def test_options_that_do_not_go_together(schema, values, message):
    with pytest.raises(UserError, match=message):
        validate(schema, values, "test")
