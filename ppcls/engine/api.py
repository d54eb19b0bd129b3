"""The library face: what ``import ppcls`` gives to programs (``docs/api.md``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ppcls.arch.reid_net import ReIDNet
from ppcls.configs.lifelong import LifelongOptions
from ppcls.configs.options import validate
from ppcls.configs.schema import TrainOptions
from ppcls.data.image import load_image
from ppcls.data.sample import Sample
from ppcls.engine import jobs, stream
from ppcls.engine.checkpoint import load_checkpoint
from ppcls.engine.stream.report import StreamReport
from ppcls.inversion import DreamConfig, DreamReport
from ppcls.inversion import dream as dream_images
from ppcls.retrieval import FeatureExtractor, find_images
from ppcls.utils.errors import UserError
from ppcls.utils.registry import nearest

#: Images to embed: a file, a folder, or any number of files, samples of a data set, PIL images or uint8 arrays.
Images = str | Path | Sequence[str | Path | Sample | Image.Image | np.ndarray]
_DEFAULT_SIZE = (256, 128)


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained network with its preprocessing.

    Attributes:
        net: the network.
        height: input height in pixels, the one it was trained at.
        width: input width in pixels.
        path: the checkpoint's file.
    """

    net: ReIDNet = dataclasses.field(repr=False)
    height: int
    width: int
    path: Path

    @property
    def num_classes(self) -> int:
        """Persons that its classifier knows, 0 without a classifier."""
        return self.net.num_classes

    @property
    def feature_dim(self) -> int:
        """Length of an embedding."""
        return self.net.feature_dim

    def embed(
        self,
        images: Images,
        *,
        feature: str = "embedding",
        flip: bool = False,
        batch_size: int = 64,
        workers: int = 2,
    ) -> np.ndarray:
        """Embeddings float32 [N, D], not normalised, one row per image in the order given.

        Args:
            images: the path of an image; a folder, with rows in the order of ``find_images(folder)``; or a sequence of
                paths, samples (``open_dataset``), PIL images or uint8 arrays [H, W, 3] (RGB) of any size.
            feature: ``"embedding"``, after the BNNeck, or ``"global"``, before it.
            flip: average each feature with that of the mirror image.
            batch_size: images in a forward pass.
            workers: threads that decode files; 0 decodes in the calling thread.

        Raises:
            UserError: no such file or folder, no image in it, an image that cannot be decoded, an array of another
                kind.
        """
        extractor = FeatureExtractor(
            self.net, self.height, self.width, feature=feature, flip=flip, batch_size=batch_size, workers=workers
        )
        found = _listed(images)
        if all(isinstance(image, str | Path | Sample) for image in found):
            return extractor.of_samples(
                [image if isinstance(image, Sample) else Sample(str(image), 0, 0) for image in found]
            )
        return extractor.of_images([_picture(image) for image in found])


def load_model(path: str | Path) -> Model:
    """The network of a run folder or of a checkpoint file.

    Depth, number of persons, variant and input size are read from the file (a file without input size: 256×128).

    Raises:
        UserError: no such file, or not a re-identification checkpoint.
    """
    loaded = load_checkpoint(path)
    height = loaded.arch.get("height") or _DEFAULT_SIZE[0]
    width = loaded.arch.get("width") or _DEFAULT_SIZE[1]
    return Model(loaded.net, height, width, loaded.path)


def embed(model: Model | str | Path, images: Images, **settings: Any) -> np.ndarray:
    """:meth:`Model.embed`, of a model or of the path of one."""
    return _as_model(model).embed(images, **settings)


def train(**options: Any) -> Path:
    """Task 1: what ``tools/main.py`` does; returns the run folder.

    Args:
        options: fields of :class:`~ppcls.configs.schema.TrainOptions`, the command's flags with ``_`` for ``-``.

    Raises:
        UserError: an unknown option, a wrong value, or anything that the command would report.
    """
    return jobs.train(validate(TrainOptions, options, "train()")).path


def dream(
    model: Model | str | Path,
    folder: str | Path,
    *,
    shots: int = 10,
    steps: tuple[int, int] = (2000, 1000),
    batch_size: int = 64,
    seed: int = 0,
    student: Model | str | Path | None = None,
    progress: bool = True,
    **settings: Any,
) -> DreamReport:
    """Dream images of every person that ``model`` was trained on (DeepInversion, Yin et al., CVPR 2020).

    A call that was interrupted goes on where it stopped when it is repeated.

    Args:
        model: the teacher, or its path.
        folder: where the images go, as ``{id}_{digest}.jpg``.
        shots: images per person.
        steps: optimisation steps at half and at full resolution.
        batch_size: images optimised together. Their statistics are shared, so this changes the result.
        seed: the same arguments give the same images.
        student: a second network, or its path, for adaptive inversion; needs ``adi_scale`` other than 0.
        progress: show a bar on a terminal.
        settings: other fields of :class:`~ppcls.inversion.DreamConfig`, such as ``lr`` or ``r_feature``; height and
            width default to the model's.

    Raises:
        UserError: a model without a classifier, an impossible setting, a folder of another job.
    """
    teacher = _as_model(model)
    known = [field.name for field in dataclasses.fields(DreamConfig)]
    for name in settings:
        if name not in known:
            raise UserError(f"dream(): unknown setting '{name}'{nearest(name, known)}")
    size = {"height": teacher.height, "width": teacher.width}
    config = DreamConfig(**{**size, **settings, "steps": steps, "batch_size": batch_size})
    other = None if student is None else _as_model(student).net
    return dream_images(teacher.net, folder, config, shots=shots, seed=seed, student=other, progress=progress)


def run_stream(tasks: Sequence[str], **options: Any) -> StreamReport:
    """Learn data sets one after the other and report what was forgotten: what ``tools/lifelong.py`` does.

    Called again with the same arguments after a stop at any moment, it goes on there.

    Args:
        tasks: data sets in the order of learning.
        options: further fields of :class:`~ppcls.configs.lifelong.LifelongOptions`, the command's flags with ``_``
            for ``-``.

    Raises:
        UserError: an unknown option, a wrong value, or anything that the command would report.
    """
    return stream.run_stream(validate(LifelongOptions, {"tasks": list(tasks), **options}, "run_stream()"))


def _listed(images: Images) -> list[str | Path | Sample | Image.Image | np.ndarray]:
    """All images; a folder's as :func:`find_images` lists them."""
    if isinstance(images, str | Path):
        return find_images(images)
    found = list(images)
    if not found:
        raise UserError("no image to embed: the sequence is empty")
    return found


def _picture(image: object) -> Image.Image | np.ndarray:
    """An image in memory as it is, a file opened.

    Raises:
        UserError: anything else.
    """
    if isinstance(image, Sample):
        image = image.path
    if isinstance(image, str | Path):
        return load_image(str(image))
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, np.ndarray) and image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3:
        return image
    what = f"{image.dtype} array {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
    raise UserError(f"cannot embed a {what}; give paths, PIL images or uint8 arrays [height, width, 3]")


def _as_model(model: Model | str | Path) -> Model:
    return model if isinstance(model, Model) else load_model(model)
