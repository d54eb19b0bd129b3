"""Options of the commands that run an exported model on files."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import model_validator

from ppcls.configs.options import option, require_picture_name
from ppcls.configs.predictor import PredictorOptions

_IMAGES, _SEARCH, _RUN = "images", "search", "run"


class FilesOptions(PredictorOptions):
    """An exported model on image files."""

    batch_size: int = option(16, "-b", "--batch-size", help="images in a forward pass", group=_RUN, ge=1)
    workers: int = option(2, "-j", "--workers", help="decoding threads; 0 decodes in between", group=_RUN, ge=0)
    strict: bool = option(False, "--strict", help="stop at the first unreadable image", group=_RUN)


class InferOptions(FilesOptions):
    """``deploy/inference_python/infer.py``: images → embeddings → nearest gallery images."""

    img_path: str | None = option(
        None,
        "--img-path",
        "--images",
        "--infer-imgs",
        help="an image, a folder, or a .txt file with one path a line",
        group=_IMAGES,
    )
    output: str = option(
        "embeddings.npz", "--output", help="where the embeddings go: .npz, or .jsonl (one line an image)", group=_IMAGES
    )
    print_embeddings: bool = option(
        False, "--print-embeddings", help="print <name><TAB><JSON> of every image", group=_IMAGES
    )
    gallery: str | None = option(
        None,
        "--gallery",
        help="what to search: images (as --img-path), a gallery of tools/build_gallery.py, or embeddings (.npz)",
        group=_SEARCH,
    )
    top_k: int = option(5, "--top-k", help="how many gallery images to name", group=_SEARCH, ge=1)
    picture: str | None = option(None, "--picture", help="image file that shows the nearest images", group=_SEARCH)
    benchmark: bool = option(False, "--benchmark", help="print times of each stage, memory, threads", group=_RUN)
    warmup: int = option(5, "--warmup", help="batches of black images before --benchmark measures", group=_RUN, ge=0)

    @model_validator(mode="after")
    def _complete(self) -> InferOptions:
        if not self.img_path:
            raise ValueError("give --img-path: an image, a folder or a .txt file with one path a line")
        if Path(self.output).suffix not in (".npz", ".jsonl"):
            raise ValueError(f"--output {self.output}: give a name that ends in .npz or .jsonl")
        if self.picture and not self.gallery:
            raise ValueError("--picture needs --gallery")
        if self.picture:
            require_picture_name("--picture", self.picture)
        return self


class GalleryOptions(FilesOptions):
    """``tools/build_gallery.py``: a persistent gallery and what is in it."""

    gallery: str = option("gallery", "--gallery", "--index-dir", help="folder of the gallery", group="gallery")
    operation: Literal["build", "add", "remove", "list"] = option(
        "build", "--operation", help="what to do with it", group="gallery"
    )
    img_path: str | None = option(
        None,
        "--img-path",
        "--images",
        help="images to build from or add: a folder, an image, or a .txt file of <path> or <path><TAB><label>",
        group=_IMAGES,
    )
    labels: Literal["name", "folder"] = option(
        "name",
        "--labels",
        help="label of an image without one: the person of its name (2 for 0002_c1….jpg), or its folder's name",
        group=_IMAGES,
    )
    ids: list[int] = option([], "--ids", help="ids to remove", group="gallery")
    remove_labels: list[str] = option([], "--remove-labels", help="labels of which to remove all", group="gallery")

    @model_validator(mode="after")
    def _complete(self) -> GalleryOptions:
        if self.operation in ("build", "add") and not self.img_path:
            raise ValueError(f"--operation {self.operation} needs --img-path: the images")
        if self.operation == "remove" and not (self.ids or self.remove_labels):
            raise ValueError("--operation remove needs --ids or --remove-labels")
        if self.operation != "remove" and (self.ids or self.remove_labels):
            raise ValueError("--ids and --remove-labels belong to --operation remove")
        if self.operation in ("remove", "list") and self.img_path:
            raise ValueError(f"--operation {self.operation} takes no --img-path")
        return self
