"""Is this the same person? ROC, TPR at a given FPR, equal-error rate and the thresholds that go with them.

Ranking orders one query's gallery; a decision needs a threshold that holds for all queries. Every pair (query,
gallery image) that ranking counts is a trial: positive if the ids agree, negative otherwise. Pairs of one id and
one camera, junk images, and queries without a valid positive take no part.

The curve is exact: it can only rise at the score of a positive pair, so for each of them the negative pairs that
score at least as well are counted, strip by strip, and nothing else is kept. That takes two passes over the scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ppcls.metric.distance import DEFAULT_BLOCK_BYTES, Parts, Scorer, score_strips
from ppcls.metric.ranking import Labels, distance_strips, hide, scores_of
from ppcls.utils.errors import UserError

_SORTED_SCORES = 2**21


@dataclass(frozen=True)
class OperatingPoint:
    """One threshold: accept a pair whose similarity is ≥ ``threshold`` (distance: ≤); rates as fractions of 1."""

    threshold: float
    tpr: float
    fpr: float


@dataclass(frozen=True)
class Roc:
    """The receiver operating characteristic at each distinct score of a positive pair, strictest first.

    Attributes:
        thresholds: float64 [T]; falling similarities, or rising distances.
        tpr: float64 [T], share of positive pairs accepted, rising to 1.
        fpr: float64 [T], share of negative pairs accepted, never falling.
        auc: probability that a positive pair scores better than a negative one, ties counting a half.
        positives, negatives: number of pairs.
    """

    thresholds: np.ndarray
    tpr: np.ndarray
    fpr: np.ndarray
    auc: float
    positives: int
    negatives: int

    def at_fpr(self, fpr: float) -> OperatingPoint:
        """The most tolerant threshold whose false-positive rate does not exceed ``fpr``.

        Some toolboxes print the point with the *nearest* rate instead, which may lie above. If even the strictest
        threshold lets too many pass, the point accepts nothing: its threshold is NaN and its rates are 0.

        Raises:
            UserError: ``fpr`` outside 0…1.
        """
        if not 0 <= fpr <= 1:
            raise UserError(f"a false-positive rate of {fpr}; give a fraction between 0 and 1")
        last = int(np.searchsorted(self.fpr, fpr, "right")) - 1
        return self._point(last) if last >= 0 else OperatingPoint(float("nan"), 0.0, 0.0)

    def equal_error(self) -> OperatingPoint:
        """The threshold where FPR and 1 − TPR differ least; the mean of the two is the equal-error rate."""
        return self._point(int(np.argmin(np.abs(self.fpr + self.tpr - 1))))

    def _point(self, index: int) -> OperatingPoint:
        return OperatingPoint(float(self.thresholds[index]), float(self.tpr[index]), float(self.fpr[index]))


def roc(
    qf: np.ndarray,
    gf: np.ndarray,
    q_pids: np.ndarray,
    g_pids: np.ndarray,
    q_cams: np.ndarray,
    g_cams: np.ndarray,
    *,
    metric: str = "cosine",
    block_bytes: int = DEFAULT_BLOCK_BYTES,
) -> Roc:
    """ROC of features; arguments as in ``ranking.rank``. Thresholds are cosines, or distances ‖q−g‖ ("euclidean").

    Memory beyond the features: that of ``ranking.rank`` and some arrays over the positive pairs.

    Raises:
        UserError: as ``ranking.rank``; no positive or no negative pair.
    """
    scorer = Scorer(qf, gf, metric)
    labels = Labels(q_pids, g_pids, q_cams, g_cams)
    labels.check(len(scorer.query), len(scorer.gallery))
    if metric == "cosine":
        return _curve(lambda: score_strips(scorer, block_bytes), labels, lambda scores: scores)

    def strips() -> Iterator[tuple[slice, Parts]]:
        # −‖q−g‖²/2: unlike the ranking score, it can be compared between queries.
        for strip, parts in score_strips(scorer, block_bytes):
            yield strip, _shifted(parts, (0.5 * scorer.query_norms[strip, None]).astype(np.float32))

    return _curve(strips, labels, lambda scores: np.sqrt(np.maximum(-2 * scores, 0)))


def roc_distance(
    distance: np.ndarray, q_pids: np.ndarray, g_pids: np.ndarray, q_cams: np.ndarray, g_cams: np.ndarray
) -> Roc:
    """:func:`roc` of a given matrix of distances, float [Nq, Ng], such as re-ranked ones; thresholds are distances."""
    labels = Labels(q_pids, g_pids, q_cams, g_cams)
    return _curve(lambda: distance_strips(np.asarray(distance), labels), labels, np.negative)


def _shifted(parts: Parts, offset: np.ndarray) -> Parts:
    """``parts`` less ``offset`` [rows, 1]; overwrites the scores, so it can be read once."""

    def shifted() -> Iterator[tuple[int, np.ndarray]]:
        for first, block in parts():
            yield first, np.subtract(block, offset, out=block)

    return shifted


def _curve(
    strips: Callable[[], Iterator[tuple[slice, Parts]]], labels: Labels, threshold: Callable[[np.ndarray], np.ndarray]
) -> Roc:
    """``strips()`` starts a pass over the scores (greater = nearer); ``threshold`` turns a score into its unit."""
    collected = [np.empty(0)]
    for strip, parts in strips():
        rows, columns, same_camera = labels.pairs(strip)
        collected.append(scores_of(parts, rows[~same_camera], columns[~same_camera]))
    scores, repeats = np.unique(np.concatenate(collected), return_counts=True)
    if not len(scores):
        raise UserError("no pair of the same id from two cameras; check that query and gallery belong together")
    at_least, above, negatives = np.zeros(len(scores), np.int64), np.zeros(len(scores), np.int64), 0
    for strip, parts in strips():
        rows, columns, same_camera = labels.pairs(strip)
        valid = np.unique(rows[~same_camera])
        for _, block in hide(parts, labels.junk, rows, columns)():
            step = max(1, _SORTED_SCORES // block.shape[1])
            for start in range(0, len(valid), step):
                others = np.sort(block[valid[start : start + step]], axis=None)
                others = others[np.searchsorted(others, -np.inf, "right") :]
                keys = scores.astype(others.dtype)
                negatives += len(others)
                at_least += len(others) - np.searchsorted(others, keys, "left")
                above += len(others) - np.searchsorted(others, keys, "right")
    if not negatives:
        raise UserError("no pair of different ids; a threshold needs both kinds")
    total = int(repeats.sum())
    worse = 1 - (at_least + above) / (2 * negatives)
    return Roc(
        thresholds=threshold(scores[::-1]),
        tpr=np.cumsum(repeats[::-1]) / total,
        fpr=at_least[::-1] / negatives,
        auc=float((worse * repeats).sum() / total),
        positives=total,
        negatives=negatives,
    )
