"""Options of the commands that look at finished networks."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from ppcls.configs.options import option, require_picture_name
from ppcls.configs.schema import StoredNetOptions

_NET, _RUN = "network", "run"


class EvaluateOptions(StoredNetOptions):
    """``tools/evaluate.py``: retrieval accuracy on any number of data sets."""

    gpu: list[str] = option(["0"], "-g", "--gpu", help="GPU number; without a GPU the CPU is used", group=_RUN)
    ckpt: str = option(
        "logs/checkpoint.pdparams",
        "-c",
        "--ckpt",
        help="checkpoint, or folder that holds one",
        group="what to evaluate",
    )
    recursive: bool = option(
        False, "--recursive", help="every checkpoint*.pdparams below the folder", group="what to evaluate"
    )
    dataset: list[str] = option(
        ["market", "duke", "msmt17"],
        "--dataset",
        help="data sets, as tools/main.py",
        group="what to evaluate",
    )
    data_root: str = option("data", "--data-root", help="folder that holds the data sets", group="what to evaluate")
    height: int | None = option(
        None, "--height", help="input height; the training run's, else 256", group="what to evaluate", ge=16
    )
    width: int | None = option(
        None, "--width", help="input width; the training run's, else 128", group="what to evaluate", ge=8
    )
    batch_size: int = option(128, "-b", "--batch-size", help="images in a batch", group=_RUN, ge=1)
    workers: int = option(2, "--workers", "-j", help="decoding threads", group=_RUN, ge=0)
    output_feature: Literal["embedding", "global"] = option(
        "embedding", "--output-feature", help="after the neck, or before it", group="how to rank"
    )
    metric: Literal["cosine", "euclidean"] = option("cosine", "--metric", help="distance", group="how to rank")
    flip: bool = option(False, "--flip", help="average each feature with its mirror image's", group="how to rank")
    ap: Literal["rectangular", "trapezoid"] = option(
        "rectangular",
        "--ap",
        help="average precision: mean precision at hits, or Market-1501's trapezoid",
        group="how to rank",
    )
    re_ranking: bool = option(False, "-r", "--re-ranking", help="k-reciprocal re-ranking", group="how to rank")
    rank_list: int = option(
        0, "--rank-list", help="draw the first ranks of so many queries per data set", group="how to rank", ge=0
    )
    output: bool = option(
        False, "--output", help="append to eval.txt, write eval.json beside the checkpoint", group=_RUN
    )
    seed: int = option(0, "-s", "--seed", help="accepted by every command; evaluation draws nothing", group=_RUN)

    @model_validator(mode="after")
    def _one_order(self) -> EvaluateOptions:
        if self.rank_list and self.re_ranking:
            raise ValueError("--rank-list draws the order before re-ranking; leave --re-ranking out")
        return self


class QuickOptions(StoredNetOptions):
    """``tools/ez_inference.py``: a network's answers on dreamed images, or on any image."""

    gpu: list[str] = option(["0"], "-g", "--gpu", help="GPU number; without a GPU the CPU is used", group=_RUN)
    previous: str = option(
        "logs", "--previous", "--model", help="run folder or checkpoint of the network", group="what to look at"
    )
    inversion_dir: str | None = option(
        None, "--inversion-dir", help="dreamed images: report the network's accuracy on them", group="what to look at"
    )
    images: str | None = option(
        None, "--images", help="an image, or a folder of them: write their embeddings", group="what to look at"
    )
    gallery: str | None = option(
        None, "--gallery", help="folder of images to search for the nearest ones", group="what to look at"
    )
    top_k: int = option(5, "--top-k", help="how many gallery images to name", group="what to look at", ge=1)
    output: str = option("embeddings.npz", "--output", help="where the embeddings go", group="what to look at")
    picture: str | None = option(None, "--picture", help="PNG that shows the nearest images", group="what to look at")
    height: int | None = option(None, "--height", help="input height; the training run's, else 256", group=_NET, ge=16)
    width: int | None = option(None, "--width", help="input width; the training run's, else 128", group=_NET, ge=8)
    metric: Literal["cosine", "euclidean"] = option("cosine", "--metric", help="distance", group="what to look at")
    flip: bool = option(False, "--flip", help="average with the mirror image's embedding", group="what to look at")
    batch_size: int = option(64, "-b", "--batch-size", help="images in a batch", group=_RUN, ge=1)
    seed: int = option(0, "-s", "--seed", help="accepted by every command; nothing is drawn here", group=_RUN)

    @model_validator(mode="after")
    def _something_to_do(self) -> QuickOptions:
        if not (self.inversion_dir or self.images):
            raise ValueError("give --inversion-dir (dreamed images) or --images (an image or a folder)")
        if (self.gallery or self.picture) and not self.images:
            raise ValueError("--gallery and --picture need --images to search for")
        if self.picture and not self.gallery:
            raise ValueError("--picture needs --gallery")
        if self.picture:
            require_picture_name("--picture", self.picture)
        return self
