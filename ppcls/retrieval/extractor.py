"""Images in, features out: the one way from files to vectors for evaluation, search and plots."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import paddle
from PIL import Image

from ppcls.arch.reid_net import ReIDNet
from ppcls.data.loader import EvalLoader
from ppcls.data.sample import Sample
from ppcls.data.transform import EvalTransform
from ppcls.utils.errors import UserError
from ppcls.utils.logger import get_logger

FEATURES = ("embedding", "global")
_LINES = 10


class FeatureExtractor:
    """A network in evaluation mode with its preprocessing.

    Args:
        net: the network; it is left in the mode it was in.
        height, width: input size in pixels, the one it was trained at.
        feature: ``"embedding"`` (after the neck) or ``"global"`` (before it).
        flip: average with the feature of the mirror image.
        batch_size: images a forward pass; workers: decoding threads.
        domain: whose statistics a network with several domains uses; None for any other network, or domain 0.
    """

    def __init__(
        self,
        net: ReIDNet,
        height: int = 256,
        width: int = 128,
        *,
        feature: str = "embedding",
        flip: bool = False,
        batch_size: int = 128,
        workers: int = 2,
        domain: int | None = None,
    ) -> None:
        if feature not in FEATURES:
            raise UserError(f"unknown feature '{feature}'; choose one of: {', '.join(FEATURES)}")
        self.net, self.feature, self.flip = net, feature, flip
        self.batch_size, self.workers, self.domain = batch_size, workers, domain
        self.transform = EvalTransform(height, width)

    def of_samples(self, samples: Sequence[Sample], log: bool = False) -> np.ndarray:
        """Features float32 [N, D] of images on disk, in order.

        Raises:
            UserError: an image that cannot be decoded, by name.
        """
        training = self.net.training
        self.net.eval()
        try:
            return self._of_samples(samples, log)
        finally:
            if training:
                self.net.train()

    def of_paths(self, paths: Sequence[str | Path]) -> np.ndarray:
        """Features float32 [N, D] of image files."""
        return self.of_samples([Sample(str(path), 0, 0) for path in paths])

    def of_images(self, images: Sequence[Image.Image | np.ndarray]) -> np.ndarray:
        """Features float32 [N, D] of PIL images or uint8 arrays [H, W, 3] of any size."""
        pictures = [image if isinstance(image, Image.Image) else Image.fromarray(image) for image in images]
        stacked = np.stack([self.transform(picture) for picture in pictures])
        training = self.net.training
        self.net.eval()
        parts = [self._forward(stacked[i : i + self.batch_size]) for i in range(0, len(stacked), self.batch_size)]
        if training:
            self.net.train()
        return np.concatenate(parts)

    def _of_samples(self, samples: Sequence[Sample], log: bool) -> np.ndarray:
        loader = EvalLoader(samples, self.transform, self.batch_size, self.workers)
        features = np.empty((len(samples), self.net.feature_dim), np.float32)
        done, clock, every = 0, time.perf_counter(), max(1, len(loader) // _LINES)
        batch_time = data_time = 0.0
        for number, (images, _) in enumerate(loader, 1):
            data = time.perf_counter() - clock
            features[done : done + len(images)] = self._forward(images)
            done += len(images)
            batch = time.perf_counter() - clock
            batch_time, data_time = batch_time + batch, data_time + data
            if log and (number % every == 0 or number == len(loader)):
                get_logger().info(
                    "Extract Features: [%d/%d], Batch Time: %.3f/%.3f, Data Time: %.3f/%.3f",
                    number, len(loader), batch_time / number, batch, data_time / number, data,
                )  # fmt: skip
            clock = time.perf_counter()
        return features

    def _forward(self, images: np.ndarray) -> np.ndarray:
        with paddle.no_grad():
            features = self._feature(paddle.to_tensor(images))
            if self.flip:
                mirrored = np.ascontiguousarray(images[..., ::-1])
                features = (features + self._feature(paddle.to_tensor(mirrored))) / 2
        return features.astype("float32").numpy()

    def _feature(self, images: paddle.Tensor) -> paddle.Tensor:
        _, global_feat, embedding = self.net.backbone(images, self.domain)
        return embedding if self.feature == "embedding" else global_feat
