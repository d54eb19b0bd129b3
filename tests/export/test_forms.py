"""Every form of every kind of network: ONNX, Paddle's older format, preprocessing in the graph, fewer bits."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from PIL import Image

from ppcls.arch.gears.non_local import NonLocal
from ppcls.configs.export import ExportOptions
from ppcls.configs.exported import read_exported
from ppcls.engine.checkpoint import Checkpoint, load_checkpoint
from ppcls.export import ParityError, export_model, export_network
from ppcls.retrieval import FeatureExtractor
from ppcls.utils.errors import UserError
from tests.export.conftest import HEIGHT, WIDTH, features_of, files, random_network, store

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("paddle2onnx")

NETWORKS = {
    "ibn_a": {"variant": "ibn_a"},
    "se_ibn_a": {"variant": "se_ibn_a"},
    "cbam": {"variant": "cbam", "cbam_channel": True},
    "max, last stride 1": {"pooling": "max", "last_stride": 1},
    "gem": {"pooling": "gem"},
}


def stored(net, folder, **arch) -> Checkpoint:
    path = store(net, folder / "run", **arch) / "checkpoint.pdparams"
    return Checkpoint(net, 3, {"depth": 18, "height": HEIGHT, "width": WIDTH, **arch}, path)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORKS)
def test_networks_of_all_kinds_pass_both_gates(kind, options, tmp_path):
    loaded = stored(random_network(**NETWORKS[kind]), tmp_path)
    model = export_network(loaded, options(onnx=True))
    assert [(graph.kind, graph.precision) for graph in model.graphs] == [("paddle", "fp32"), ("onnx", "fp32")]
    for graph in model.graphs:
        assert graph.parity["relative_difference"] < 1e-4
    written = onnx.load(str(tmp_path / "modèle/inference.onnx"))
    assert [entry.version for entry in written.opset_import if not entry.domain] == [17]
    assert [value.name for value in written.graph.output] == [model.output.name]
    assert written.graph.input[0].type.tensor_type.shape.dim[0].dim_param  # a free batch size


@pytest.mark.slow
def test_a_network_with_domains_is_exported_for_one_of_them(options, data, tmp_path):
    net = random_network(variant="separable")
    loaded = stored(net, tmp_path, variant="separable")
    model = export_network(loaded, options(domain=1))
    assert model.source.arch["domain"] == 1
    paths = sorted((data / "market/query").glob("*.jpg"))
    found = features_of(tmp_path / "modèle", paths)
    own, other = (FeatureExtractor(net, HEIGHT, WIDTH, domain=domain).of_paths(paths) for domain in (1, 0))
    np.testing.assert_allclose(found, own, atol=1e-4 * abs(own).max())
    assert abs(found - other).max() > 0.01 * abs(own).max()
    with pytest.raises(UserError, match="has 2 domains"):
        export_network(loaded, options(domain=2))


@pytest.fixture(scope="module")
def raw(checkpoint, data, tmp_path_factory):
    """An export with preprocessing in both graphs, from a process that has imported paddle, in the older format."""
    folder = tmp_path_factory.mktemp("raw") / "model"
    settings = {"dataset": "market", "data_root": str(data), "workers": 0, "preprocess_in_graph": True, "onnx": True}
    export_model(
        ExportOptions(
            ckpt=str(checkpoint), save_inference_dir=str(folder), format="pdmodel", normalise=True, **settings
        )
    )
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["paddle", "onnxruntime"])
def test_pictures_of_any_size_go_straight_into_the_graph(raw, checkpoint, backend, tmp_path):
    model = read_exported(raw)
    assert (model.input.layout, model.input.height, model.input.width) == ("NHWC", HEIGHT, WIDTH)
    assert set(files(raw)) == {"inference.pdmodel", "inference.pdiparams", "inference.onnx", "inference.yml"}
    rng = np.random.default_rng(1)
    paths = []
    for number, size in enumerate([(16, 32), (1, 1), (90, 200), (3, 400), (128, 64)]):
        paths.append(tmp_path / f"{number}.png")
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(paths[-1])
    expected = FeatureExtractor(load_checkpoint(checkpoint).net, HEIGHT, WIDTH).of_paths(paths)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(features_of(raw, paths, backend), expected, atol=1e-5)


@pytest.mark.slow
def test_the_older_format_holds_gates_too(options, tmp_path):
    net = random_network(variant="se", pooling="gem")
    loaded = stored(net, tmp_path, variant="se", pooling="gem")
    model = export_network(loaded, options(format="pdmodel"))
    assert (model.graphs[0].model, model.graphs[0].parity["relative_difference"] < 1e-4) == ("inference.pdmodel", True)


@pytest.mark.slow
def test_non_local_blocks_are_in_all_graphs(options, data, tmp_path):
    """Their product of three maps overflows in an untrained trunk unless their weights are small."""
    settings = {"depth": 50, "non_local": "half"}
    net = random_network(**settings)
    blocks = [block for block in net.backbone.sublayers() if isinstance(block, NonLocal)]
    for layer in (layer for block in blocks for layer in (block.theta, block.phi, block.g)):
        layer.weight.set_value(layer.weight * 0.02)
        layer.bias.set_value(layer.bias * 0.02)
    loaded = stored(net, tmp_path, **settings)
    model = export_network(loaded, options(format="pdmodel", onnx=True, limit=12))
    assert [graph.model for graph in model.graphs] == ["inference.pdmodel", "inference.onnx"]
    paths = sorted((data / "market/query").glob("*.jpg"))[:4]
    found = features_of(tmp_path / "modèle", paths, "onnxruntime")
    for block in blocks:
        block.W[1].weight.set_value(block.W[1].weight * 0)
        block.W[1].bias.set_value(block.W[1].bias * 0)
    without = FeatureExtractor(net, HEIGHT, WIDTH).of_paths(paths)
    assert abs(found - without).max() > 0.01 * abs(without).max()


@pytest.mark.slow
def test_a_network_that_the_file_does_not_hold_cannot_be_written_by_the_child(options, tmp_path):
    loaded = stored(random_network(seed=1), tmp_path)
    store(random_network(seed=2), tmp_path / "run")  # the file changes after it was loaded
    with pytest.raises(ParityError, match="failed the parity gate"):
        export_network(loaded, options(format="pdmodel"))
    store(random_network(variant="ibn_a"), tmp_path / "run")
    with pytest.raises(UserError, match=r"cannot write a \.pdmodel model: .*does not fit"):
        export_network(loaded, options(format="pdmodel"))


@pytest.mark.slow
def test_half_precision_costs_half_the_bytes_and_hardly_any_accuracy(options, data, tmp_path):
    model = export_model(options(onnx=True, precision="fp16"))
    folder = tmp_path / "modèle"
    graph = model.graphs[-1]
    assert (graph.model, graph.precision) == ("inference_fp16.onnx", "fp16")
    assert abs(graph.parity["map_exported"] - graph.parity["map_training"]) <= 0.01
    assert (folder / graph.model).stat().st_size < 0.51 * (folder / "inference.onnx").stat().st_size
    paths = sorted((data / "market/query").glob("*.jpg"))
    full, half = (features_of(folder, paths, "onnxruntime", precision) for precision in ("fp32", "fp16"))
    assert 0 < abs(full - half).max() < 0.01 * abs(full).max()


@pytest.mark.slow
def test_eight_bits_run_on_integer_kernels(options, data, tmp_path):
    model = export_model(options(onnx=True, precision="int8", max_map_drop=20))
    folder = tmp_path / "modèle"
    graph = model.graphs[-1]
    assert (graph.model, graph.precision) == ("inference_int8.onnx", "int8")
    assert graph.parity["map_exported"] > graph.parity["map_training"] - 0.2
    assert (folder / graph.model).stat().st_size < 0.27 * (folder / "inference.onnx").stat().st_size
    paths = sorted((data / "market/query").glob("*.jpg"))
    full, few = (features_of(folder, paths, "onnxruntime", precision) for precision in ("fp32", "int8"))
    cosine = (full * few).sum(axis=1) / np.linalg.norm(full, axis=1) / np.linalg.norm(few, axis=1)
    assert cosine.min() > 0.98 and abs(full - few).max() > 0

    settings = onnxruntime.SessionOptions()
    settings.optimized_model_filepath = str(tmp_path / "run.onnx")
    settings.log_severity_level = 3
    onnxruntime.InferenceSession(str(folder / graph.model), settings, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(str(tmp_path / "run.onnx")).graph.node)
    assert (kinds["QLinearConv"], kinds["QLinearAdd"], kinds["Conv"]) == (20, 8, 0)


@pytest.mark.slow
def test_precision_that_costs_too_much_is_not_exported(options, monkeypatch, tmp_path):
    from ppcls.export import int8

    def blind(model, names, batches, scratch):
        return dict.fromkeys(names, int8.Range(0.0, 1e-3))  # everything saturates

    monkeypatch.setattr(int8, "observe", blind)
    with pytest.raises(ParityError, match=r"inference_int8\.onnx .*costs .* mAP points"):
        export_model(options(onnx=True, precision="int8"))
    assert list(tmp_path.iterdir()) == []
