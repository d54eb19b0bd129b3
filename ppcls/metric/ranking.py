"""Exact retrieval figures (CMC, mAP) without sorting the gallery, in bounded memory.

AP and CMC depend on the ranks of a query's positives alone, and a rank is one plus the number of kept
gallery images that score better. So for each block of queries the scores are computed (a matrix product),
and for each of the few positives the better scores are counted: one pass over a row of float32 instead of
sorting its indices.

Protocol (Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015): a gallery image of the
query's id *and* camera is ignored for this query; pid −1 is junk, ignored for all; every other image counts,
distractors (pid 0) too. Queries without a valid positive are left out of all means.

Ties are ordered by gallery index: the ranking is that of a stable sort by falling score.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ppcls.metric.distance import DEFAULT_BLOCK_BYTES, Parts, Scorer, score_strips
from ppcls.metric.single_shot import SingleShot
from ppcls.utils.errors import UserError

JUNK_PID = -1
AP_KINDS = ("rectangular", "trapezoid")
# Measured on float32 rows of 16 k: sorting one candidate costs as much as comparing this many scores, and a
# comparison has a fixed cost of about this many scores.
_SORT_COST = 96
_CALL_COST = 3000
# Positives compared in one call: bounds the mask, which should stay in the processor's cache.
_TOGETHER = 16


@dataclass(frozen=True)
class RankingResult:
    """Retrieval figures as fractions of 1.

    Attributes:
        mAP: mean of the valid queries' AP.
        cmc: float64 [max_rank]; cmc[k−1] = share of valid queries with a positive among the first k.
        ap_per_query: float64 [Nq]; NaN where a query has no valid positive.
        num_valid: number of valid queries.
        mINP: mean of the valid queries' inverse negative penalty: number of positives / rank of the last one
            (Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook", TPAMI 2022).
        inp_per_query: float64 [Nq]; NaN as in ``ap_per_query``.
    """

    mAP: float
    cmc: np.ndarray
    ap_per_query: np.ndarray
    num_valid: int
    mINP: float
    inp_per_query: np.ndarray

    @property
    def mean(self) -> float:
        """(mAP + R1) / 2, the figure by which several published systems choose their best model."""
        return (self.mAP + float(self.cmc[0])) / 2


def rank(
    qf: np.ndarray,
    gf: np.ndarray,
    q_pids: np.ndarray,
    g_pids: np.ndarray,
    q_cams: np.ndarray,
    g_cams: np.ndarray,
    *,
    metric: str = "cosine",
    ap: str = "rectangular",
    max_rank: int = 100,
    single_shot: SingleShot | None = None,
    block_bytes: int = DEFAULT_BLOCK_BYTES,
) -> RankingResult:
    """mAP and CMC of features ``qf`` [Nq, D] against ``gf`` [Ng, D] (float32).

    ``q_pids, q_cams`` int [Nq], ``g_pids, g_cams`` int [Ng]. ``metric``: "cosine" (also the order of the
    reference's 1/(1+cosine)) or "euclidean". ``ap``: "rectangular" = mean over positives of hits so
    far / rank (scikit-learn's average precision); "trapezoid" = Market-1501's official evaluation code.
    ``single_shot``: sample one gallery image per person instead of using all (CUHK03's classic protocol).
    Memory beyond the features: at most max(``block_bytes``, 32 MiB) for scores, plus small per-image arrays.
    The result does not depend on ``block_bytes``, bit for bit.

    Raises:
        UserError: shapes that disagree, features that are not finite, unknown option, no query with a valid
            positive.
    """
    scorer = Scorer(qf, gf, metric)
    labels = Labels(q_pids, g_pids, q_cams, g_cams)
    labels.check(len(scorer.query), len(scorer.gallery))
    strips = score_strips(scorer, block_bytes)
    return rank_strips(strips, labels, ap=ap, max_rank=max_rank, single_shot=single_shot)


def rank_distance(
    distance: np.ndarray | Iterable[tuple[slice, np.ndarray]],
    q_pids: np.ndarray,
    g_pids: np.ndarray,
    q_cams: np.ndarray,
    g_cams: np.ndarray,
    *,
    ap: str = "rectangular",
    max_rank: int = 100,
    single_shot: SingleShot | None = None,
) -> RankingResult:
    """:func:`rank` for given distances (smaller = nearer), such as re-ranked ones.

    ``distance``: float [Nq, Ng], or pairs ``(query rows, block [rows, Ng])`` that cover all queries in order.

    Raises:
        UserError: as :func:`rank`; NaN or infinite distances.
    """
    labels = Labels(q_pids, g_pids, q_cams, g_cams)
    return rank_strips(distance_strips(distance, labels), labels, ap=ap, max_rank=max_rank, single_shot=single_shot)


def _row_blocks(matrix: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    rows = max(1, DEFAULT_BLOCK_BYTES // (8 * max(1, matrix.shape[-1])))
    for start in range(0, len(matrix), rows):
        yield slice(start, min(start + rows, len(matrix))), matrix[start : start + rows]


def distance_strips(
    distance: np.ndarray | Iterable[tuple[slice, np.ndarray]], labels: Labels
) -> Iterator[tuple[slice, Parts]]:
    """Distances as :func:`rank_distance` takes them, as the score strips that :func:`rank_strips` takes."""
    expected, width = 0, len(labels.g_pids)
    for strip, block in _row_blocks(distance) if isinstance(distance, np.ndarray) else distance:
        if block.shape != (strip.stop - strip.start, width) or strip.start != expected:
            raise UserError(
                f"distances of queries {strip.start}:{strip.stop} have shape {block.shape} for {width} "
                "gallery images; blocks must be [rows, gallery size] and follow each other"
            )
        if not np.isfinite(block).all():
            raise UserError(f"distances of queries {strip.start}:{strip.stop} hold NaN or infinity")
        expected = strip.stop
        scores = np.negative(block, dtype=np.result_type(block, np.float32))
        yield strip, lambda scores=scores: iter([(0, scores)])
    if expected != len(labels.q_pids):
        raise UserError(f"distances cover {expected} queries, the labels {len(labels.q_pids)}")


class Labels:
    """Ids and cameras of both sides, with the gallery indexed by id.

    Raises:
        UserError: arrays that are not one-dimensional or whose lengths disagree.
    """

    def __init__(self, q_pids: np.ndarray, g_pids: np.ndarray, q_cams: np.ndarray, g_cams: np.ndarray) -> None:
        self.q_pids, self.g_pids = np.asarray(q_pids), np.asarray(g_pids)
        self.q_cams, self.g_cams = np.asarray(q_cams), np.asarray(g_cams)
        for side, pids, cams in (("query", self.q_pids, self.q_cams), ("gallery", self.g_pids, self.g_cams)):
            if pids.ndim != 1 or pids.shape != cams.shape:
                raise UserError(
                    f"{side} ids have shape {pids.shape}, cameras {cams.shape}; expected one each per image"
                )
        self.junk = np.flatnonzero(self.g_pids == JUNK_PID)
        kept = np.flatnonzero(self.g_pids != JUNK_PID)
        self._by_pid = kept[np.argsort(self.g_pids[kept], kind="stable")]
        self._sorted_pids = self.g_pids[self._by_pid]

    def check(self, queries: int, gallery: int) -> None:
        """UserError unless there are labels for exactly this many images."""
        for side, labels, images in (("query", self.q_pids, queries), ("gallery", self.g_pids, gallery)):
            if len(labels) != images:
                raise UserError(f"{images} {side} features but {len(labels)} {side} ids; they must match one to one")

    def pairs(self, strip: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All same-id pairs of a query strip: row in the strip, gallery column, is the camera the same."""
        pids = self.q_pids[strip]
        low = np.searchsorted(self._sorted_pids, pids, "left")
        count = np.searchsorted(self._sorted_pids, pids, "right") - low
        rows = np.repeat(np.arange(len(pids)), count)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(count) - count, count)
        columns = self._by_pid[np.repeat(low, count) + within]
        return rows, columns, self.same_camera(rows + strip.start, columns)

    def same_camera(self, queries: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """For each listed (query, gallery column) of one id: is the pair to be ignored, bool."""
        return self.g_cams[columns] == self.q_cams[queries]


def rank_strips(
    strips: Iterable[tuple[slice, Parts]],
    labels: Labels,
    *,
    ap: str = "rectangular",
    max_rank: int = 100,
    single_shot: SingleShot | None = None,
) -> RankingResult:
    """:func:`rank` on scores that come strip by strip (``distance.score_strips``); overwrites the scores."""
    if ap not in AP_KINDS:
        raise UserError(f"unknown kind of average precision {ap!r}; choose one of {', '.join(AP_KINDS)}")
    if max_rank < 1:
        raise UserError(f"max_rank is {max_rank}; it must be at least 1")
    queries, ranks = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for strip, parts in strips:
        rows, columns, same_camera = labels.pairs(strip)
        visible = hide(parts, labels.junk, rows[same_camera], columns[same_camera])
        rows, columns = rows[~same_camera], columns[~same_camera]
        if single_shot:
            queries.append(np.unique(rows) + strip.start)
            ranks.append(single_shot.ranks(visible, queries[-1], strip, labels.q_pids, labels.g_pids))
        else:
            queries.append(rows + strip.start)
            ranks.append(_positive_ranks(visible, rows, columns))
    found, total = np.concatenate(queries), len(labels.q_pids)
    if single_shot:
        repeats = np.arange(single_shot.repeats)
        trials = (found[:, None] * single_shot.repeats + repeats).ravel()
        summary = _summary(trials, np.concatenate(ranks), total * single_shot.repeats, ap, max_rank)
        return _mean_of_repeats(summary, total)
    return _summary(found, np.concatenate(ranks), total, ap, max_rank)


def hide(parts: Parts, junk: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> Parts:
    """``parts`` with the scores of the ``junk`` columns and of the pairs (``rows``, ``columns``) at −∞."""

    def visible() -> Iterator[tuple[int, np.ndarray]]:
        for first, block in parts():
            end = first + block.shape[1]
            block[:, junk[(junk >= first) & (junk < end)] - first] = -np.inf
            inside = (columns >= first) & (columns < end)
            block[rows[inside], columns[inside] - first] = -np.inf
            yield first, block

    return visible


def scores_of(parts: Parts, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Scores of the pairs (row in the strip, gallery column), float64 [P]."""
    scores = np.empty(len(rows), np.float64)
    for first, block in parts():
        inside = (columns >= first) & (columns < first + block.shape[1])
        scores[inside] = block[rows[inside], columns[inside] - first]
    return scores


def _positive_ranks(parts: Parts, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """1-based rank of every valid positive (row in the strip, ascending; gallery column)."""
    scores = scores_of(parts, rows, columns)
    better = np.zeros(len(rows), np.int64)
    queries, starts = np.unique(rows, return_index=True)
    bounds = np.append(starts, len(rows))
    for first, block in parts():
        scratch = np.empty((_TOGETHER, block.shape[1]), bool)
        for row, low, high in zip(queries.tolist(), bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            thresholds = scores[low:high].astype(block.dtype)
            better[low:high] += count_better(block[row], columns[low:high] - first, thresholds, scratch)
    return better + 1


def count_better(row: np.ndarray, positions: np.ndarray, scores: np.ndarray, scratch: np.ndarray) -> np.ndarray:
    """For each (position, score): how many entries of ``row`` a stable falling sort puts before it.

    ``row`` float [n]; ``positions`` int [P] relative to the row's start, outside 0…n−1 if the entry is in
    another part of the gallery; ``scores`` float [P] in the row's type; ``scratch`` bool [16, n], overwritten.
    Returns int64 [P].
    """
    if not len(scores):
        return np.zeros(0, np.int64)
    selected = np.greater_equal(row, scores.min(), out=scratch[0])
    candidates = np.count_nonzero(selected)
    if candidates * _SORT_COST <= len(scores) * (len(row) + _CALL_COST):
        return _count_sorted(row, positions, scores, selected)
    return _count_compared(row, positions, scores, scratch)


def _count_sorted(row: np.ndarray, positions: np.ndarray, scores: np.ndarray, selected: np.ndarray) -> np.ndarray:
    """Sort only what scores at least as well as the worst positive."""
    candidates = row[selected.nonzero()[0]]
    candidates.sort()
    after = candidates.searchsorted(scores, "right")
    better = len(candidates) - after
    equal = after - candidates.searchsorted(scores, "left")
    inside = (positions >= 0) & (positions < len(row))
    for tied in (equal > inside).nonzero()[0]:
        better[tied] += np.count_nonzero(row[: max(0, positions[tied])] == scores[tied])
    return better


def _count_compared(row: np.ndarray, positions: np.ndarray, scores: np.ndarray, scratch: np.ndarray) -> np.ndarray:
    """Compare the whole row with every positive, a few positives at a time."""
    better = np.empty(len(scores), np.int64)
    for start in range(0, len(scores), _TOGETHER):
        group = slice(start, start + _TOGETHER)
        thresholds, places = scores[group, None], positions[group]
        masks = scratch[: len(thresholds)]
        np.greater(row, thresholds, out=masks)
        better[group] = [np.count_nonzero(mask) for mask in masks]
        np.equal(row, thresholds, out=masks)
        if np.count_nonzero(masks) > np.count_nonzero((places >= 0) & (places < len(row))):
            better[group] += [np.count_nonzero(mask[: max(0, p)]) for mask, p in zip(masks, places, strict=True)]
    return better


def _summary(queries: np.ndarray, ranks: np.ndarray, total: int, ap: str, max_rank: int) -> RankingResult:
    """AP and CMC from the positives' ``ranks`` int [P]; ``queries`` int [P] ascending."""
    if not len(queries):
        raise UserError(
            "no query has a gallery image of the same id from another camera; "
            "check that query and gallery belong together"
        )
    ranks = ranks[np.lexsort((ranks, queries))]
    valid, starts, counts = np.unique(queries, return_index=True, return_counts=True)
    hits = np.arange(len(ranks)) - np.repeat(starts, counts) + 1
    precision = hits / ranks
    if ap == "trapezoid":
        # Precision one place before the hit; Market's code starts the curve at precision 1.
        before = np.divide(hits - 1, ranks - 1, out=np.ones_like(precision), where=ranks > 1)
        precision = (precision + before) / 2
    ap_per_query = np.full(total, np.nan)
    ap_per_query[valid] = np.bincount(queries, weights=precision, minlength=total)[valid] / counts
    first = ranks[starts]
    found = np.bincount(first[first <= max_rank] - 1, minlength=max_rank)
    inp_per_query = np.full(total, np.nan)
    inp_per_query[valid] = counts / ranks[starts + counts - 1]
    return RankingResult(
        mAP=float(ap_per_query[valid].mean()),
        cmc=np.cumsum(found) / len(valid),
        ap_per_query=ap_per_query,
        num_valid=len(valid),
        mINP=float(inp_per_query[valid].mean()),
        inp_per_query=inp_per_query,
    )


def _mean_of_repeats(result: RankingResult, queries: int) -> RankingResult:
    """Figures of ``queries`` queries from those of all their trials, which follow each other query by query."""
    repeats = len(result.ap_per_query) // queries
    return replace(
        result,
        ap_per_query=result.ap_per_query.reshape(queries, repeats).mean(axis=1),
        inp_per_query=result.inp_per_query.reshape(queries, repeats).mean(axis=1),
        num_valid=result.num_valid // repeats,
    )


def top_k(
    qf: np.ndarray,
    gf: np.ndarray,
    k: int,
    metric: str = "cosine",
    *,
    block_bytes: int = DEFAULT_BLOCK_BYTES,
) -> tuple[np.ndarray, np.ndarray]:
    """The ``min(k, Ng)`` nearest gallery rows of each query, nearest first; equal scores by gallery index.

    Returns gallery indices, int64 [Nq, k], and float32 [Nq, k]: cosine similarities (falling) or, for
    "euclidean", distances ‖q−g‖ (rising). Exact, in the memory of :func:`rank`.

    Raises:
        UserError: ``k`` < 1, shapes that disagree, features that are not finite, unknown metric.
    """
    if k < 1:
        raise UserError(f"k is {k}; ask for at least one neighbour")
    scorer = Scorer(qf, gf, metric)
    k = min(k, len(scorer.gallery))
    index = np.empty((len(scorer.query), k), np.int64)
    value = np.empty((len(scorer.query), k), np.float32)
    for strip, parts in score_strips(scorer, block_bytes):
        index[strip], value[strip] = leading(parts, strip.stop - strip.start, k)
    if metric == "euclidean":
        value = np.sqrt(np.maximum(scorer.query_norms[:, None] - 2.0 * value, 0)).astype(np.float32)
    return index, value


def leading(parts: Parts, rows: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns and scores, [rows, k], of each row's ``k`` best entries in stable falling order."""
    columns = [np.empty(0, np.int64)] * rows
    scores = [np.empty(0, np.float32)] * rows
    for first, block in parts():
        for row in range(rows):
            here = _leading_of_row(block[row], k)
            found = np.concatenate((columns[row], here + first))
            found_scores = np.concatenate((scores[row], block[row, here]))
            # Earlier parts hold smaller columns, so a stable sort keeps ties in column order.
            best = np.argsort(-found_scores, kind="stable")[:k]
            columns[row], scores[row] = found[best], found_scores[best]
    return np.stack(columns), np.stack(scores)


def _leading_of_row(row: np.ndarray, k: int) -> np.ndarray:
    if k >= len(row):
        return np.argsort(-row, kind="stable")
    worst = np.partition(row, len(row) - k)[len(row) - k]
    candidates = np.flatnonzero(row >= worst)
    return candidates[np.argsort(-row[candidates], kind="stable")[:k]]
