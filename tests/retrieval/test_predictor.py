"""Predictors: every backend gives the training network's answers, and says what is wrong with a folder."""

from __future__ import annotations

import importlib.util
import logging
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppcls.configs.exported import SIDECAR, InputSpec, read_exported, write_exported
from ppcls.data.image import load_image
from ppcls.data.transform import EvalTransform
from ppcls.retrieval.predictor import Predictor, embed_files, embed_images, files, open_predictor, opening, preprocess
from ppcls.utils.errors import UserError
from ppcls.utils.files import digest_file

ROOT = Path(__file__).resolve().parents[2]
GATE = 1e-4
needs_openvino = pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="openvino is not installed")
WAYS = [
    ("onnxruntime", {}),
    ("paddle", {}),
    ("paddle", {"enable_mkldnn": False}),
    pytest.param("openvino", {}, marks=needs_openvino),
]


def pictures(folder: Path) -> list[Image.Image]:
    return [Image.open(path) for path in sorted(folder.glob("*.png"))]


def copy(folder: Path, target: Path, **changes) -> Path:
    """A copy of an exported model with another sidecar."""
    shutil.copytree(folder, target)
    model = read_exported(folder)
    write_exported(target, model.model_copy(update=changes))
    return target


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "settings"), WAYS)
def test_every_backend_answers_as_the_training_network(backend, settings, exported, checkpoint, photos):
    from ppcls.engine.checkpoint import load_checkpoint
    from ppcls.retrieval import FeatureExtractor

    expected = FeatureExtractor(load_checkpoint(checkpoint).net, 32, 16).of_images(pictures(photos))
    with open_predictor(exported, backend, cpu_threads=1, **settings) as predictor:
        assert (predictor.backend, predictor.cpu_threads) == (backend, 1)
        together = embed_images(predictor, pictures(photos))
        alone = np.concatenate([embed_images(predictor, [image]) for image in pictures(photos)])
    assert together.shape == (7, 512) and together.dtype == np.float32
    for found in (together, alone):
        assert np.abs(found - expected).max() < GATE * np.abs(expected).max()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["paddle", pytest.param("openvino", marks=needs_openvino)])
def test_bfloat16_only_when_asked_for(backend, exported, photos):
    if "avx512_bf16" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("no bfloat16 arithmetic here")
    with open_predictor(exported, backend) as exact, open_predictor(exported, backend, precision="bf16") as rough:
        reference, found = (embed_images(predictor, pictures(photos)) for predictor in (exact, rough))
    difference = np.abs(found - reference).max() / np.abs(reference).max()
    assert GATE < difference < 0.1
    with pytest.raises(UserError, match="onnxruntime does not compute in bf16"):
        open_predictor(exported, "onnxruntime", precision="bf16")


def test_results_stay_when_the_next_batch_runs(pixels):
    with open_predictor(pixels) as predictor:
        first = predictor.run(np.ones((2, 3, 8, 4), np.float32))
        predictor.run(np.zeros((2, 3, 8, 4), np.float32))
    np.testing.assert_array_equal(first, np.ones((2, 6)))


def test_a_model_is_opened_and_run_without_paddle(pixels, photos):
    code = f"""
        import sys
        sys.path.insert(0, {str(ROOT)!r})
        from ppcls.retrieval.gallery import Gallery
        from ppcls.retrieval.predictor import embed_images, open_predictor
        from PIL import Image
        with open_predictor({str(pixels)!r}) as predictor:
            print(embed_images(predictor, [Image.open({str(next(photos.glob("*.png")))!r})]).shape)
        assert "paddle" not in sys.modules
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "(1, 6)\n"), done.stderr


@pytest.mark.slow
def test_auto_takes_the_first_that_can_and_says_which(exported, monkeypatch, caplog):
    def taken(**settings) -> str:
        caplog.clear()
        with caplog.at_level(logging.INFO, "ppcls"), open_predictor(exported, **settings) as predictor:
            assert f"{predictor.backend} {predictor.version} runs" in caplog.text
            return predictor.backend

    monkeypatch.setattr(logging.getLogger("ppcls"), "propagate", True)
    real, missing = importlib.util.find_spec, {"openvino"}
    installed = lambda name, *rest: None if name in missing else real(name, *rest)  # noqa: E731
    if real("openvino") is not None:
        assert taken() == "openvino"
    assert taken(enable_mkldnn=False) == "paddle"
    monkeypatch.setattr(opening.importlib.util, "find_spec", installed)
    assert taken() == "onnxruntime"
    missing.add("onnxruntime")
    assert taken() == "paddle"
    with pytest.raises(UserError, match="backend openvino is not installed: pip install openvino"):
        open_predictor(exported, "openvino")


def test_a_backend_that_is_installed_but_broken_is_said(pixels, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(logging.getLogger("ppcls"), "propagate", True)
    (tmp_path / "broken/openvino").mkdir(parents=True)
    (tmp_path / "broken/openvino/__init__.py").write_text("raise ImportError('libgomp.so.1: no such file')")
    monkeypatch.syspath_prepend(tmp_path / "broken")
    monkeypatch.delitem(sys.modules, "openvino", raising=False)
    with pytest.raises(UserError, match=r"backend openvino is installed but cannot be imported \(libgomp") as caught:
        open_predictor(pixels, "openvino")
    assert "\n" not in str(caught.value)
    with open_predictor(pixels) as predictor:
        assert predictor.backend == "onnxruntime"
    assert "openvino is installed but cannot be imported" in caplog.text


@pytest.mark.slow
def test_auto_leaves_out_what_is_known_to_be_inexact(exported, tmp_path, monkeypatch):
    graphs = [graph.model_copy() for graph in read_exported(exported).graphs]
    for graph in graphs:
        if graph.kind == "onnx":
            graph.parity = {"relative_difference": 2e-4}
    other = copy(exported, tmp_path / "inexact", graphs=graphs)
    with open_predictor(other) as predictor:
        assert predictor.backend == "paddle"
    with open_predictor(other, "onnxruntime") as predictor:  # asked for by name: with a warning
        assert predictor.backend == "onnxruntime"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"backend": "tensorrt"}, "unknown backend 'tensorrt'; choose one of: auto, onnxruntime"),
        ({"precision": "fp8"}, "unknown precision 'fp8'"),
        ({"precision": "int8"}, r"holds no int8 graph \(it holds inference.onnx: onnx fp32\)"),
        ({"backend": "paddle"}, "holds no fp32 graph for paddle"),
        ({"backend": "onnxruntime", "enable_mkldnn": False}, "only be switched off for the paddle backend"),
        ({"enable_mkldnn": False}, "no backend can run .*onnxruntime: oneDNN .*; paddle: .* holds no fp32 graph"),
        ({"cpu_threads": -1}, "cpu_threads is -1"),
        ({"use_gpu": True, "backend": "onnxruntime"}, "no GPU that this build of onnxruntime can use"),
    ],
)
def test_what_cannot_be_had_is_said(pixels, settings, message):
    with pytest.raises(UserError, match=message) as caught:
        open_predictor(pixels, **settings)
    assert "\n" not in str(caught.value)


def test_no_exported_model(tmp_path):
    with pytest.raises(UserError, match="holds no exported model"):
        open_predictor(tmp_path)


def with_digests(folder: Path) -> Path:
    model = read_exported(folder)
    for graph in model.graphs:
        names = [name for name in (graph.model, graph.params) if name]
        graph.digests = {name: digest_file(folder / name) for name in names}
    write_exported(folder, model)
    return folder


def test_a_replaced_file_is_noticed_before_it_is_loaded(pixels):
    file = with_digests(pixels) / "inference.onnx"
    file.write_bytes(file.read_bytes() + b" ")
    with pytest.raises(UserError, match="not the file that inference.yml was written for"):
        open_predictor(pixels)
    file.unlink()
    with pytest.raises(UserError, match=r"inference.onnx is missing, though inference.yml names it"):
        open_predictor(pixels)


def test_the_sidecar_cannot_point_outside_its_folder(pixels, tmp_path):
    graphs = read_exported(pixels).graphs
    graphs[0].model = "../inference.onnx"
    with pytest.raises(UserError, match="graphs must lie in the folder itself"):
        open_predictor(copy(pixels, tmp_path / "other", graphs=graphs))


@pytest.mark.parametrize("backend", ["onnxruntime", pytest.param("openvino", marks=needs_openvino)])
@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_files_that_are_no_graph(pixels, backend, content):
    file = pixels / "inference.onnx"
    file.write_bytes(file.read_bytes()[:60] if content is None else content)
    with pytest.raises(UserError, match=r"inference.onnx is no model that \w+ can load") as caught:
        open_predictor(pixels, backend)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inference.json", "inference.pdiparams"])
def test_paddle_files_that_are_cut_off(exported, tmp_path, name):
    graphs = [graph.model_copy(update={"digests": {}}) for graph in read_exported(exported).graphs]
    broken = copy(exported, tmp_path / "broken", graphs=graphs)
    (broken / name).write_bytes((broken / name).read_bytes()[:900])
    with pytest.raises(UserError, match="no model that paddle can load") as caught:
        open_predictor(broken, "paddle")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backend", ["onnxruntime", pytest.param("openvino", marks=needs_openvino)])
def test_a_sidecar_of_another_model(pixels, tmp_path, backend):
    other = copy(pixels, tmp_path / "size", input=InputSpec(height=9, width=4))
    with pytest.raises(UserError, match="does not run on the input that its sidecar describes"):
        open_predictor(other, backend)
    output = read_exported(pixels).output.model_copy(update={"feature_dim": 7})
    with pytest.raises(UserError, match=r"output of shape \(1, 6\), its sidecar promises \(1, 7\)"):
        open_predictor(copy(pixels, tmp_path / "dim", output=output), backend)


@pytest.mark.parametrize(
    "batch",
    [
        np.zeros((1, 3, 8, 5), np.float32),
        np.zeros((3, 8, 4), np.float32),
        np.zeros((0, 3, 8, 4), np.float32),
        np.zeros((1, 3, 8, 4), np.float64),
        np.zeros((1, 8, 4, 3), np.uint8),
    ],
)
def test_a_batch_that_does_not_fit(pixels, batch):
    with open_predictor(pixels) as predictor, pytest.raises(UserError, match=r"takes float32 \[N, 3, 8, 4\]"):
        predictor.run(batch)


def test_embeddings_that_are_not_finite_are_refused(pixels):
    with open_predictor(pixels) as predictor, pytest.raises(UserError, match="not finite"):
        predictor.run(np.full((1, 3, 8, 4), np.nan, np.float32))


class Sums(Predictor):
    """Takes pictures of any size; the embedding is the sum of each colour. Remembers its batches."""

    backend, version, _refusals = "sums", "1", ()

    def __init__(self, model):
        super().__init__(model, None, device="cpu", cpu_threads=1, precision="fp32")
        self.shapes = []

    def _forward(self, batch):
        self.shapes.append(batch.shape)
        return batch.sum((1, 2), dtype=np.float32)

    def close(self):
        self.shapes = None


@pytest.fixture
def sums(pixels):
    model = read_exported(pixels)
    output = model.output.model_copy(update={"feature_dim": 3})
    return Sums(model.model_copy(update={"input": InputSpec(height=8, width=4, layout="NHWC"), "output": output}))


def test_pictures_for_a_graph_that_preprocesses_stay_as_they_are(sums, photos):
    images = pictures(photos)
    images += [images[-1]] * 2
    found = embed_images(sums, images)
    expected = [np.asarray(image.convert("RGB")).sum((0, 1), dtype=np.float32) for image in images]
    np.testing.assert_array_equal(found, expected)
    assert sums.shapes[-1][0] == 3 and len(sums.shapes) == 7  # equal neighbours share a forward pass


def test_preprocessing_is_that_of_evaluation(pixels, photos):
    spec = InputSpec(height=8, width=4, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    model = read_exported(pixels).model_copy(update={"input": spec})
    image = pictures(photos)[0]
    found = preprocess(model)(image)
    np.testing.assert_array_equal(found, EvalTransform(8, 4, spec.mean, spec.std)(image))
    plain = EvalTransform(8, 4, (0, 0, 0), (1, 1, 1))(image)
    expected = (plain - np.array(spec.mean, np.float32)[:, None, None]) / np.array(spec.std, np.float32)[:, None, None]
    np.testing.assert_array_equal(found, expected)


def test_no_image_is_a_mistake(sums):
    with pytest.raises(UserError, match="no image to embed"):
        embed_images(sums, [])


@pytest.mark.parametrize("workers", [0, 2])
def test_files_come_in_order_and_unreadable_ones_are_named(pixels, photos, tmp_path, workers):
    paths = sorted(photos.glob("*.png"))
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(paths[0].read_bytes()[:40])
    listed = [*paths[:2], broken, *paths[2:], tmp_path / "gone.jpg"]
    with open_predictor(pixels) as predictor:
        batches = list(embed_files(predictor, listed, batch_size=3, workers=workers))
        expected = embed_images(predictor, [Image.open(path) for path in paths])
        assert [path for batch in batches for path in batch.paths] == paths
        np.testing.assert_array_equal(np.concatenate([batch.embeddings for batch in batches]), expected)
        failures = [failure for batch in batches for failure in batch.failures]
        assert [path for path, _ in failures] == [broken, tmp_path / "gone.jpg"]
        assert all(str(path) in reason for path, reason in failures)
        with pytest.raises(UserError, match=r"broken\.jpg"):
            list(embed_files(predictor, listed, batch_size=3, workers=workers, strict=True))
        with pytest.raises(UserError, match="batch size"):
            list(embed_files(predictor, listed, batch_size=0))


def test_the_next_batch_is_decoded_while_one_is_computed(sums, photos, monkeypatch):
    paths, second = sorted(photos.glob("*.png"))[:2], threading.Event()

    def load(path):
        if path == str(paths[1]):
            second.set()
        return load_image(path)

    monkeypatch.setattr(files, "load_image", load)
    forward, waited = sums._forward, []
    monkeypatch.setattr(sums, "_forward", lambda batch: (waited.append(second.wait(30)), forward(batch))[1])
    assert [len(batch.paths) for batch in embed_files(sums, paths, batch_size=1, workers=1)] == [1, 1]
    assert waited == [True, True]


def test_a_batch_of_unreadable_files_only(pixels, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"no image")
    with open_predictor(pixels) as predictor:
        (batch,) = embed_files(predictor, [tmp_path / "a.jpg"], workers=0)
    assert batch.embeddings.shape == (0, 6) and len(batch.failures) == 1


def test_the_sidecar_is_needed(pixels):
    (pixels / SIDECAR).write_text("format: 2\n")
    with pytest.raises(UserError, match=r"inference\.yml"):
        open_predictor(pixels)
