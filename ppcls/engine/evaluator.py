"""Retrieval accuracy of a network on a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ppcls.data.dataset import ReIDData
from ppcls.data.sample import Sample
from ppcls.metric.ranking import RankingResult, rank, rank_distance
from ppcls.metric.rerank import k_reciprocal_blocks
from ppcls.retrieval.extractor import FeatureExtractor
from ppcls.utils.errors import UserError
from ppcls.utils.logger import get_logger

SHOWN_RANKS = (1, 5, 10, 20)


@dataclass(frozen=True)
class EvaluationProtocol:
    """How features are compared and figures computed.

    Re-ranking starts from squared Euclidean distances of the features as they are, whatever ``metric`` says, as the
    published code does.
    """

    metric: str = "cosine"
    ap: str = "rectangular"
    re_ranking: bool = False


@dataclass
class Evaluation:
    """Figures of one query set, as fractions of 1.

    Attributes:
        dataset: name of the query set.
        mAP: mean average precision.
        cmc: share of queries with a hit among the first k, for k = 1, 5, 10, 20.
        queries, gallery: how many images took part; valid: queries that have a match.
    """

    dataset: str
    mAP: float
    cmc: dict[int, float]
    queries: int
    gallery: int
    valid: int
    ap_per_query: np.ndarray = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready form, without the per-query values."""
        return {
            "dataset": self.dataset,
            "mAP": self.mAP,
            "cmc": {str(k): value for k, value in self.cmc.items()},
            "queries": self.queries,
            "gallery": self.gallery,
            "valid_queries": self.valid,
        }


#: Called with (query set's name, query samples, query features, gallery features, ranking).
Inspect = Callable[[str, list[Sample], np.ndarray, np.ndarray, RankingResult], None]


def evaluate(
    extractor: FeatureExtractor,
    data: ReIDData,
    protocol: EvaluationProtocol | None = None,
    log: bool = True,
    inspect: Inspect | None = None,
) -> list[Evaluation]:
    """mAP and CMC of each query set of ``data``, and their mean (named ``avg``) if there are several.

    ``inspect`` sees the features of each query set, for pictures.

    Raises:
        UserError: an unreadable image; no query with a match in another camera.
    """
    protocol = protocol or EvaluationProtocol()
    gallery = extractor.of_samples(data.gallery, log)
    results = []
    for name, samples in data.queries:
        query = extractor.of_samples(samples, log)
        found = compare(query, samples, gallery, data.gallery, protocol)
        results.append(_summary(name, found, len(samples), len(data.gallery)))
        if inspect:
            inspect(name, samples, query, gallery, found)
        if log:
            report(results[-1])
    if len(results) > 1:
        results.append(_mean(results))
        if log:
            report(results[-1])
    return results


def require_matches(data: ReIDData) -> None:
    """Say at once what an evaluation would find at its end.

    Raises:
        UserError: a query set without any query that has a match in another camera.
    """
    cameras: dict[int, set[int]] = {}
    for image in data.gallery:
        cameras.setdefault(image.pid, set()).add(image.camid)
    for name, samples in data.queries:
        if not any(cameras.get(image.pid, set()) - {image.camid} for image in samples):
            raise UserError(f"{name}: no query has a gallery match in another camera; give --evaluate 0 to train only")


def compare(
    query: np.ndarray,
    query_samples: list[Sample],
    gallery: np.ndarray,
    gallery_samples: list[Sample],
    protocol: EvaluationProtocol,
) -> RankingResult:
    """Rank gallery features for query features under ``protocol``."""
    labels = (
        *_labels("pid", query_samples, gallery_samples),
        *_labels("camid", query_samples, gallery_samples),
    )
    if protocol.re_ranking:
        return rank_distance(k_reciprocal_blocks(query, gallery), *labels, ap=protocol.ap)
    return rank(query, gallery, *labels, metric=protocol.metric, ap=protocol.ap)


def report(result: Evaluation) -> None:
    """Print one result as the published logs do."""
    logger = get_logger()
    logger.info("%s: compute dist, %d queries, %d gallery images", result.dataset, result.valid, result.gallery)
    logger.info("Mean AP: %.1f%%", 100 * result.mAP)
    logger.info("CMC Scores")
    for k, value in result.cmc.items():
        logger.info("  top-%-4d%12s", k, f"{value:.1%}")


def _labels(what: str, *sides: list[Sample]) -> list[np.ndarray]:
    return [np.array([getattr(sample, what) for sample in side], np.int64) for side in sides]


def _summary(name: str, found: RankingResult, queries: int, gallery: int) -> Evaluation:
    cmc = {k: float(found.cmc[k - 1]) for k in SHOWN_RANKS}
    return Evaluation(name, float(found.mAP), cmc, queries, gallery, found.num_valid, found.ap_per_query)


def _mean(results: list[Evaluation]) -> Evaluation:
    cmc = {k: float(np.mean([result.cmc[k] for result in results])) for k in SHOWN_RANKS}
    return Evaluation(
        "avg",
        float(np.mean([result.mAP for result in results])),
        cmc,
        sum(result.queries for result in results),
        results[0].gallery,
        sum(result.valid for result in results),
        np.concatenate([result.ap_per_query for result in results]),
    )
