"""AlignedReID++'s local distance pair by pair, written down from the paper. For comparison only."""

from __future__ import annotations

import numpy as np


def local_distances(query: np.ndarray, gallery: np.ndarray, form: str) -> np.ndarray:
    """DMLI of ``query`` [Nq, H, d] × ``gallery`` [Ng, H', d], float64 [Nq, Ng].

    ``form`` of the recursion. "cells": a minimum by NumPy for each cell, as the public code has it (which can also
    take many pairs at once, in some gigabytes). "arrays": reads and writes single numbers of an array. "lists": reads
    and writes Python's lists, the fastest way.
    """
    recursion = {"cells": _on_cells, "arrays": _on_array, "lists": _on_lists}[form]
    return np.array([[recursion(_cost(left, right)) for right in gallery] for left in query])


def _cost(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    squared = np.square(left).sum(axis=1)[:, None] + np.square(right).sum(axis=1) - 2 * (left @ right.T)
    exponential = np.exp(np.sqrt(np.maximum(squared, 1e-12)))
    return (exponential - 1) / (exponential + 1)


def _on_cells(cost: np.ndarray) -> float:
    totals: dict[tuple[int, int], np.ndarray] = {}
    for (i, j), here in np.ndenumerate(cost):
        before = [totals[cell] for cell in ((i - 1, j), (i, j - 1)) if cell in totals]
        totals[i, j] = np.min(np.stack(before), axis=0) + here if before else here
    return float(totals[cost.shape[0] - 1, cost.shape[1] - 1])


def _on_array(cost: np.ndarray) -> float:
    total = np.full((cost.shape[0] + 1, cost.shape[1] + 1), np.inf, cost.dtype)
    total[0, 1] = 0
    for i in range(cost.shape[0]):
        for j in range(cost.shape[1]):
            total[i + 1, j + 1] = cost[i, j] + min(total[i, j + 1], total[i + 1, j])
    return float(total[-1, -1])


def _on_lists(cost: np.ndarray) -> float:
    total = [0.0] + [np.inf] * (cost.shape[1] - 1)
    for row in cost.tolist():
        before = np.inf
        for j, here in enumerate(row):
            above = total[j]
            before = here + (above if above < before else before)
            total[j] = before
    return total[-1]
