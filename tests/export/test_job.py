"""A checkpoint becomes a folder that answers as the network, or nothing."""

from __future__ import annotations

import importlib.util
import shutil

import numpy as np
import pytest

from ppcls.configs.export import ExportOptions
from ppcls.configs.exported import read_exported
from ppcls.configs.options import validate
from ppcls.engine.checkpoint import load_checkpoint
from ppcls.export import ParityError, export_model, job
from ppcls.retrieval import FeatureExtractor
from ppcls.utils.errors import UserError
from ppcls.utils.files import digest_file
from tests.export.conftest import CLASSES, HEIGHT, WIDTH, features_of, files, random_network, store


def paths(data) -> list:
    return sorted((data / "market/query").glob("*.jpg"))


@pytest.fixture
def older(exported, tmp_path):
    """An older export in the target folder."""
    return shutil.copytree(exported, tmp_path / "modèle")


def test_the_sidecar_tells_what_a_predictor_must_know(exported, checkpoint):
    folder, model = exported, read_exported(exported)
    assert set(files(folder)) == {"inference.json", "inference.pdiparams", "inference.yml"}
    assert (model.name, model.input.height, model.input.width, model.input.layout) == ("gate 7", HEIGHT, WIDTH, "NCHW")
    assert (model.output.feature_dim, model.output.feature, model.output.normalised) == (512, "embedding", False)
    assert (model.source.epoch, model.source.classes_dropped) == (3, CLASSES)
    assert model.source.digest == digest_file(checkpoint / "checkpoint.pdparams")
    assert model.source.arch["depth"] == 18
    (graph,) = model.graphs
    assert graph.digests == {name: digest_file(folder / name) for name in ("inference.json", "inference.pdiparams")}
    assert graph.parity["images"] == 12 + 12 + 5  # query, gallery, strangers
    assert graph.parity["relative_difference"] < 1e-5
    assert 0 < graph.parity["map_training"] < 1
    assert graph.parity["map_exported"] == pytest.approx(graph.parity["map_training"], abs=1e-6)


def test_answers_are_those_of_the_network_and_the_classifier_is_gone(exported, checkpoint, data):
    net = load_checkpoint(checkpoint).net
    expected = FeatureExtractor(net, HEIGHT, WIDTH).of_paths(paths(data))
    found = features_of(exported, paths(data))
    np.testing.assert_allclose(found, expected, atol=1e-5 * abs(expected).max())
    weights = sum(parameter.size for parameter in net.backbone.parameters())
    stored = (exported / "inference.pdiparams").stat().st_size
    assert 4 * weights <= stored < 4 * (weights + net.classifier.W.size)


def test_output_before_the_neck_normalised(options, checkpoint, data, tmp_path):
    model = export_model(options(feature="global", normalise=True))
    assert (model.output.feature, model.output.normalised) == ("global", True)
    expected = FeatureExtractor(load_checkpoint(checkpoint).net, HEIGHT, WIDTH, feature="global").of_paths(paths(data))
    found = features_of(tmp_path / "modèle", paths(data))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5)


def test_without_images_synthetic_pedestrians_are_compared(options, tmp_path):
    (graph,) = export_model(options(dataset=None)).graphs
    assert graph.parity["images"] > 60 and "map_exported" in graph.parity


def test_images_without_ids_are_compared_without_map(options, data):
    (graph,) = export_model(options(dataset=None, images=str(data / "market/query"), limit=5)).graphs
    assert set(graph.parity) == {"images", "relative_difference"} and graph.parity["images"] == 5


@pytest.fixture
def perturbed(monkeypatch):
    """From now on graphs are written from weights that are not quite those of the network."""
    original = job.build_embedder

    def build(net, **shape):
        net = net.copy()
        weight = net.backbone.base.layer4[1].conv2.weight
        weight.set_value(weight.numpy() * 1.01)
        return original(net, **shape)

    monkeypatch.setattr(job, "build_embedder", build)


def test_a_graph_of_other_weights_is_not_exported(options, perturbed, tmp_path):
    with pytest.raises(ParityError, match=r"inference\.json .*failed the parity gate: .*differ.*nothing was written"):
        export_model(options())
    assert list(tmp_path.iterdir()) == []


def test_a_failed_export_leaves_the_older_one_as_it_was(options, older, perturbed, tmp_path):
    before = files(older)
    with pytest.raises(ParityError):
        export_model(options(model_name="other"))
    assert files(older) == before
    assert [path.name for path in tmp_path.iterdir()] == ["modèle"]


def test_an_export_replaces_an_export(options, older, tmp_path):
    model = export_model(options(model_name="second"))
    assert read_exported(older) == model and model.name == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["modèle"]


@pytest.mark.parametrize("beside", [False, True])
def test_other_files_are_never_replaced(options, tmp_path, beside, request):
    target = request.getfixturevalue("older") if beside else tmp_path / "modèle"
    target.mkdir(exist_ok=True)
    (target / "holiday.jpg").write_bytes(b"keep me")
    before = files(target)
    with pytest.raises(UserError, match="another folder"):
        export_model(options())
    assert files(target) == before


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"ckpt": "/nowhere"}, "no checkpoint at /nowhere"),
        ({"depth": 50}, "trained with --depth 18, not 50"),
        ({"domain": 1}, "no statistics per domain"),
        ({"dataset": "duke"}, "duke does not exist"),
        ({"dataset": None, "images": "/nowhere"}, "/nowhere: no such image or folder"),
        ({"limit": 3}, "--limit 3 does not hold all images of a single person"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(options, tmp_path, wrong, message):
    with pytest.raises(UserError, match=message):
        export_model(options(**wrong))
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_whose_answers_are_not_finite_is_named(options, tmp_path):
    net = random_network()
    net.backbone.bn.weight.set_value(np.full(512, np.nan, np.float32))
    with pytest.raises(UserError, match=r"checkpoint\.pdparams: the network's own answers are not finite"):
        export_model(options(ckpt=str(store(net, tmp_path / "run"))))
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_file_is_no_target(options, tmp_path):
    (tmp_path / "modèle").write_bytes(b"")
    with pytest.raises(UserError, match="is a file"):
        export_model(options())


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"precision": "fp16"}, "--precision fp16 is a form of the ONNX graph: add --onnx"),
        ({"precision": "int8", "onnx": True}, "give --dataset or --images"),
        ({"ckpt": "a", "pretrained": "b"}, "--ckpt and --pretrained name different checkpoints"),
        ({"precision": "int4"}, "precision='int4'"),
    ],
)
def test_options_that_contradict_each_other(values, message):
    with pytest.raises(UserError, match=message):
        validate(ExportOptions, values, "test")


def test_missing_packages_are_named_before_any_work(options, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "paddle2onnx" else found(name))
    with pytest.raises(UserError, match=r"--onnx needs paddle2onnx: .*requirements"):
        export_model(options(onnx=True, ckpt="/nowhere"))


def test_a_training_network_goes_on_training(options, checkpoint, perturbed):
    loaded = load_checkpoint(checkpoint)
    loaded.net.train()
    with pytest.raises(ParityError):
        job.export_network(loaded, options())
    assert loaded.net.training and loaded.net.backbone.bn.training
