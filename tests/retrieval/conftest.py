"""Small exported models: one of six pixels, one real ResNet-18 in every format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppcls.configs.export import ExportOptions
from tests.serving.pixel_model import make_onnx


@pytest.fixture
def pixels(tmp_path) -> Path:
    """A model whose embedding is six numbers of its input (8 × 4): fast, and known exactly."""
    pytest.importorskip("onnxruntime")
    return make_onnx(tmp_path / "pixels")


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    """Seven pictures of different sizes, one of them grey, below a folder with spaces and accents in its name."""
    folder = tmp_path_factory.mktemp("été à Zürich")
    rng = np.random.default_rng(0)
    for number in range(7):
        pixels = rng.integers(0, 256, (int(rng.integers(8, 90)), int(rng.integers(8, 60)), 3), np.uint8)
        image = Image.fromarray(pixels)
        (image.convert("L") if number == 3 else image).save(folder / f"{number % 3 + 1:04d}_c1s1_{number:06d}.png")
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """An untrained ResNet-18 for 32 × 16 pictures."""
    import paddle

    from ppcls.arch.reid_net import build_net
    from ppcls.engine.checkpoint import save_checkpoint

    paddle.seed(0)
    path = tmp_path_factory.mktemp("network") / "checkpoint.pdparams"
    save_checkpoint(path, build_net(depth=18, num_classes=4), 1, {"depth": 18, "height": 32, "width": 16})
    return path


@pytest.fixture(scope="session")
def exported(checkpoint, photos, tmp_path_factory) -> Path:
    """That network as Paddle and ONNX graphs."""
    for package in ("onnxruntime", "paddle2onnx"):
        pytest.importorskip(package)
    from ppcls.export import export_model

    folder = tmp_path_factory.mktemp("exported") / "r18"
    export_model(
        ExportOptions(ckpt=str(checkpoint), save_inference_dir=str(folder), images=str(photos), onnx=True, workers=0)
    )
    return folder
