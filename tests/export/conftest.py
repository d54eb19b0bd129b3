"""A small checkpoint, a small data set, and exports of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ppcls.configs.export import ExportOptions
from ppcls.data.lite import make_lite_data

HEIGHT, WIDTH, CLASSES = 32, 16, 6


def random_network(seed: int = 0, **settings):
    """An untrained network whose norms are not the identity, as a trained one's; ResNet-18 unless told otherwise."""
    from ppcls.arch.reid_net import build_net

    net = build_net(**{"depth": 18, "num_classes": CLASSES, "seed": seed, **settings})
    rng = np.random.default_rng(seed)
    for name, parameter in net.backbone.named_parameters():
        if parameter.ndim != 1:
            continue
        if name.endswith(("_variance", "weight")):
            parameter.set_value(rng.uniform(0.5, 1.5, parameter.shape).astype(np.float32))
        elif name.endswith(("_mean", "bias")):
            parameter.set_value(rng.normal(0, 0.3, parameter.shape).astype(np.float32))
    return net


def store(net, folder: Path, **arch) -> Path:
    """The network as a run folder's checkpoint."""
    from ppcls.engine.checkpoint import save_checkpoint

    known = {"last_stride": 2, "pooling": "avg", "neck_bias": "train", "variant": "plain", "classifier": "linear"}
    folder.mkdir(parents=True, exist_ok=True)
    arch = {"depth": 18, **known, "height": HEIGHT, "width": WIDTH, **arch}
    save_checkpoint(folder / "checkpoint.pdparams", net, 3, arch)
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    return store(random_network(), tmp_path_factory.mktemp("run à Zürich"))


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Eight people of one domain, four of them in query and gallery."""
    folder = tmp_path_factory.mktemp("données")
    make_lite_data(folder, ["market"], 4, 4, 3, 2, 64, 32, 0)
    return folder


@pytest.fixture(scope="session")
def exported(checkpoint, data, tmp_path_factory) -> Path:
    """A finished export of ``checkpoint``; read only."""
    from ppcls.export import export_model

    folder = tmp_path_factory.mktemp("exported") / "model"
    settings = {"dataset": "market", "data_root": str(data), "workers": 0, "model_name": "gate 7"}
    export_model(ExportOptions(ckpt=str(checkpoint), save_inference_dir=str(folder), **settings))
    return folder


@pytest.fixture
def options(checkpoint, data, tmp_path):
    """``options(**more)``: an export of ``checkpoint`` to ``tmp_path/"modèle"``, compared on ``data``."""

    def make(**more) -> ExportOptions:
        settings = {"ckpt": str(checkpoint), "save_inference_dir": str(tmp_path / "modèle")}
        return ExportOptions(**{**settings, "dataset": "market", "data_root": str(data), "workers": 0, **more})

    return make


def features_of(folder: Path, paths, backend: str = "paddle", precision: str = "fp32") -> np.ndarray:
    """Embeddings of image files by an exported model."""
    from ppcls.data.image import load_image
    from ppcls.retrieval.predictor import embed_images, open_predictor

    with open_predictor(folder, backend, precision=precision) as predictor:
        return embed_images(predictor, [load_image(str(path)) for path in paths])


def files(folder: Path) -> dict[str, bytes]:
    """Names and contents of a folder's files."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}
