"""Tiny data sets on disk."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ppcls.data.sample import Sample


@pytest.fixture
def write_image():
    """write_image(path, seed) writes a smooth random picture, 24 × 12 by default, and returns the path."""

    def write(path: Path, seed: int, size: tuple[int, int] = (12, 24), **options) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.RandomState(seed).randint(0, 256, (4, 2, 3), dtype=np.uint8)
        Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).save(path, **options)
        return path

    return write


@pytest.fixture
def make_market(write_image):
    """make_market(root, ...) writes a clean data set in the bounding-box layout and returns `root`."""

    def make(root: Path, train_ids: int = 6, test_ids: int = 3, images: int = 5, seed: int = 0) -> Path:
        number = seed * 10_000
        for pid in range(1, train_ids + 1):
            for k in range(images):
                number += 1
                write_image(root / "bounding_box_train" / f"{pid:04d}_c{k % 3 + 1}s1_{k:06d}_00.jpg", number)
        for pid in range(101, 101 + test_ids):
            for split, camera in (("query", 1), ("bounding_box_test", 2), ("bounding_box_test", 12)):
                number += 1
                write_image(root / split / f"{pid:04d}_c{camera}s1_000000_00.jpg", number)
        return root

    return make


@pytest.fixture
def samples(tmp_path, write_image) -> list[Sample]:
    """8 persons × 6 images, 3 cameras, pids 10, 20, …"""
    return [
        Sample(str(write_image(tmp_path / f"{pid:03d}_c{k % 3}_{k}.jpg", 97 * pid + k)), pid, k % 3)
        for pid in range(10, 90, 10)
        for k in range(6)
    ]
