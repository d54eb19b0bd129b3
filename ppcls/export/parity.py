"""The parity gate: what was exported answers as the network that was trained, on real images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ppcls.configs.exported import ExportedModel
from ppcls.data.image import load_image
from ppcls.data.sample import Sample
from ppcls.engine.evaluator import EvaluationProtocol, compare
from ppcls.export.gate_images import GateImages
from ppcls.retrieval.predictor import preprocess
from ppcls.utils.errors import UserError
from ppcls.utils.logger import get_logger

#: Largest difference of any output value, as a share of the largest output of the training network.
DIFFERENCE_LIMIT = 1e-4
#: How far mAP may move, in points (hundredths).
MAP_LIMIT = 0.05
#: Images that a graph is given together; the first ones are given again alone.
BATCH = 7
_ALONE = 8
_BUFFERED = 512

#: A batch as the graph takes it → float32 [N, D].
Run = Callable[[np.ndarray], np.ndarray]


class ParityError(UserError):
    """The exported graph does not answer as the training network; nothing was written."""


@dataclass(frozen=True)
class Parity:
    """How far two sets of features of the same images are apart.

    Attributes:
        images: how many were compared.
        difference: largest absolute difference over the largest absolute reference value.
        map_before, map_after: mean average precision, fractions of 1, of reference and exported graph; None where the
            images carry no ids.
    """

    images: int
    difference: float
    map_before: float | None
    map_after: float | None

    @property
    def map_moved(self) -> float:
        """Change of mAP in points, 0 where it is not known."""
        return 0.0 if self.map_before is None else 100 * (self.map_after - self.map_before)

    def as_figures(self) -> dict[str, float]:
        """For the sidecar."""
        figures = {"images": float(self.images), "relative_difference": self.difference}
        if self.map_before is not None:
            figures |= {"map_training": self.map_before, "map_exported": self.map_after}
        return figures

    def line(self, what: str, origin: str) -> str:
        """One line for the log."""
        text = (
            f"{what}: {self.images} images of {origin}: largest difference {self.difference:.1e} of the largest output"
        )
        if self.map_before is None:
            return text + "; no ids, so no mAP"
        return f"{text}; mAP {self.map_before:.4%} → {self.map_after:.4%} ({self.map_moved:+.3f} points)"


def graph_features(run: Run, model: ExportedModel, samples: Sequence[Sample], strict: bool) -> np.ndarray:
    """Features float32 [N, D] of image files through a graph, in batches of 7; the first ones again one by one, and
    the very first seven times in one batch, as fewer images of one shape than that may be all there are.

    Raises:
        ParityError: the graph gives no usable answer or, if ``strict``, one that depends on the batch an image is in.
    """
    features = np.empty((len(samples), model.output.feature_dim), np.float32)
    for rows, batch in batches(model, samples, BATCH):
        features[rows] = _answer(run, batch)
    alone = features.copy()
    for rows, batch in batches(model, samples[:_ALONE], 1):
        alone[rows] = _answer(run, batch)
    ((_, first),) = batches(model, samples[:1], 1)
    repeated = _answer(run, np.repeat(first, BATCH, axis=0))
    difference = relative_difference(
        np.concatenate([features, repeated]), np.concatenate([alone, *[alone[:1]] * BATCH])
    )
    if strict and not difference <= DIFFERENCE_LIMIT:
        raise ParityError(
            f"the graph's answers depend on the batch: alone and among {BATCH} they differ by {difference:.1e} of the "
            "largest output; nothing was written"
        )
    return features


def _answer(run: Run, batch: np.ndarray) -> np.ndarray:
    try:
        return run(batch)
    except UserError as error:  # an output of the wrong shape, or not finite
        raise ParityError(f"the exported graph fails on real images: {error}; nothing was written") from error


def measure(reference: np.ndarray, features: np.ndarray, images: GateImages) -> Parity:
    """Compare two sets of features [N, D] of ``images.samples``."""
    before, after = mean_ap(reference, images), mean_ap(features, images)
    return Parity(len(images.samples), relative_difference(reference, features), before, after)


def relative_difference(reference: np.ndarray, features: np.ndarray) -> float:
    """max|a − b| / max|a|; NaN where a value is not finite or all references are 0."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(np.max(np.abs(features.astype(np.float64) - reference)) / np.max(np.abs(reference)))


def mean_ap(features: np.ndarray, images: GateImages) -> float | None:
    """mAP (cosine) over all query sets, NaN if a feature is not finite, None without ids."""
    if not images.queries:
        return None
    if not np.isfinite(features).all():
        return float("nan")
    row = {sample: index for index, sample in enumerate(images.samples)}
    rows_of = lambda samples: features[[row[sample] for sample in samples]]  # noqa: E731
    gallery = rows_of(images.gallery)
    found = [
        compare(rows_of(samples), samples, gallery, images.gallery, EvaluationProtocol()).mAP
        for _, samples in images.queries
    ]
    return float(np.mean(found))


def require_parity(parity: Parity, what: str, origin: str) -> None:
    """Print the figures; the strict gate of a full-precision graph.

    Raises:
        ParityError: a difference above 1e-4, or an mAP that moved by more than 0.05 points.
    """
    get_logger().info("parity of %s", parity.line(what, origin))
    if not parity.difference <= DIFFERENCE_LIMIT:
        raise ParityError(
            f"{what} failed the parity gate: its outputs differ from the training network's by {parity.difference:.1e} "
            f"of the largest output (limit {DIFFERENCE_LIMIT:.0e}); nothing was written"
        )
    if not abs(parity.map_moved) <= MAP_LIMIT:
        raise ParityError(
            f"{what} failed the parity gate: mAP moved from {parity.map_before:.4%} to {parity.map_after:.4%} "
            f"(limit {MAP_LIMIT} points); nothing was written"
        )


def require_small_drop(parity: Parity, what: str, origin: str, limit: float) -> None:
    """Print the figures; the gate of a reduced-precision graph, which may cost ``limit`` mAP points.

    Raises:
        ParityError: it costs more, or gives values that are not finite.
    """
    get_logger().info("accuracy of %s", parity.line(what, origin))
    if not -parity.map_moved <= limit:
        raise ParityError(
            f"{what} costs {-parity.map_moved:.3f} mAP points ({parity.map_before:.4%} → {parity.map_after:.4%}), more "
            f"than --max-map-drop {limit}; nothing was written"
        )


def batches(model: ExportedModel, samples: Sequence[Sample], size: int) -> Iterator[tuple[list[int], np.ndarray]]:
    """(rows of ``samples``, batch of up to ``size``) as the graph takes it: float32, or uint8 pictures of one size."""
    transform = preprocess(model)
    waiting: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = {}
    held = 0
    for row, sample in enumerate(samples):
        array = transform(load_image(sample.path))
        group = waiting.setdefault(array.shape, [])
        group.append((row, array))
        held += 1
        if len(group) == size:
            yield _stacked(waiting.pop(array.shape))
            held -= size
        if held >= _BUFFERED:  # pictures of very many sizes: do not keep them all
            yield from map(_stacked, waiting.values())
            waiting, held = {}, 0
    yield from map(_stacked, waiting.values())


def _stacked(group: list[tuple[int, np.ndarray]]) -> tuple[list[int], np.ndarray]:
    return [row for row, _ in group], np.stack([array for _, array in group])
