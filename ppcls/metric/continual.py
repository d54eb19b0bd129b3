"""Figures of continual learning, from a matrix of results.

``R[t, d]`` is the result (mAP or R1, in any unit) on domain d after task t, float [T, T], T tasks learned in
the order of the domains. Entries above the diagonal (domains not learned yet) may be NaN where they were not
evaluated; the others must be numbers. In the docstrings tasks and domains count from 1, and T is the last.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from ppcls.utils.errors import UserError


def as_results(results: np.ndarray) -> np.ndarray:
    """``results`` as float64 [T, T].

    Raises:
        UserError: not square, empty, or a result on or below the diagonal missing.
    """
    matrix = np.asarray(results, dtype=np.float64)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not matrix.size:
        raise UserError(f"the result matrix has shape {matrix.shape}; expected one row and one column per task")
    missing = np.argwhere(np.tril(~np.isfinite(matrix)))
    if missing.size:
        task, domain = missing[0] + 1
        raise UserError(f"no result on domain {domain} after task {task}; evaluate every domain learned so far")
    return matrix


def average_after(results: np.ndarray) -> np.ndarray:
    """A_t = mean over d ≤ t of R[t, d], float64 [T]; the last entry is the final average."""
    matrix = as_results(results)
    return np.array([row[: task + 1].mean() for task, row in enumerate(matrix)])


def average_incremental(results: np.ndarray) -> float:
    """Mean over t of A_t (Rebuffi et al., iCaRL, CVPR 2017)."""
    return float(average_after(results).mean())


def change(results: np.ndarray) -> np.ndarray:
    """R[T, d] − R[d, d] per domain, float64 [T]: negative = forgotten; the last entry is 0."""
    matrix = as_results(results)
    return matrix[-1] - matrix.diagonal()


def relative_change(results: np.ndarray) -> np.ndarray:
    """:func:`change` divided by R[d, d], float64 [T]; NaN where R[d, d] is 0."""
    matrix = as_results(results)
    learned = matrix.diagonal()
    return np.divide(change(matrix), learned, out=np.full(len(matrix), np.nan), where=learned != 0)


def backward_transfer(results: np.ndarray) -> float:
    """BWT = mean over d < T of R[T, d] − R[d, d] (Lopez-Paz and Ranzato, NeurIPS 2017); NaN for one task."""
    return _mean(change(results)[:-1])


def forgetting(results: np.ndarray, best_of: str = "seen") -> float:
    """F = mean over d < T of (best earlier result on d − R[T, d]) (Chaudhry et al., ECCV 2018).

    ``best_of``: the tasks l whose R[l, d] may be the best. "seen": d ≤ l < T, the strict form. "all": l < T,
    also before d was learned, as far as evaluated. "incl_last": l ≤ T, never negative. NaN for one task.

    Raises:
        UserError: another ``best_of``, or as :func:`as_results`.
    """
    matrix = as_results(results)
    last = len(matrix) - 1
    rows = {
        "seen": lambda domain: slice(domain, last),
        "all": lambda domain: slice(0, last),
        "incl_last": lambda domain: slice(0, last + 1),
    }
    if best_of not in rows:
        raise UserError(f"unknown form of forgetting {best_of!r}; choose one of {', '.join(rows)}")
    drops = [np.nanmax(matrix[rows[best_of](d), d]) - matrix[last, d] for d in range(last)]
    return _mean(np.array(drops))


def forward_transfer(results: np.ndarray, initial: np.ndarray) -> float:
    """FWT = mean over d > 1 of R[d−1, d] − b[d]; ``initial`` b float [T]: results of the untrained model.

    NaN for one task, or where a domain was not evaluated before it was learned.
    """
    matrix = as_results(results)
    return _mean(matrix.diagonal(1) - _per_domain(initial, len(matrix), "initial")[1:])


def learning_accuracy(results: np.ndarray) -> float:
    """LA = mean over d of R[d, d]: how well each domain is learned when its turn comes."""
    return float(as_results(results).diagonal().mean())


def intransigence(results: np.ndarray, joint: np.ndarray) -> float:
    """J[T] − R[T, T]; ``joint`` J float [T]: results of a model trained on all domains together."""
    matrix = as_results(results)
    return float(_per_domain(joint, len(matrix), "joint")[-1] - matrix[-1, -1])


@dataclass(frozen=True)
class ContinualSummary:
    """All figures of one stream; NaN where a figure is not defined (see the functions of the same names)."""

    average_after: list[float]
    final_average: float
    average_incremental: float
    change: list[float]
    relative_change: list[float]
    backward_transfer: float
    forgetting: float
    learning_accuracy: float
    forward_transfer: float | None
    intransigence: float | None

    def as_dict(self) -> dict[str, float | list[float] | None]:
        """Plain numbers and lists; NaN becomes None, so that the result is valid JSON."""
        return {name: _json(value) for name, value in asdict(self).items()}


def summarise(
    results: np.ndarray, *, initial: np.ndarray | None = None, joint: np.ndarray | None = None
) -> ContinualSummary:
    """All figures of ``results`` [T, T]; forward transfer needs ``initial`` [T], intransigence ``joint`` [T].

    Raises:
        UserError: as :func:`as_results`; vectors of another length.
    """
    averages = average_after(results)
    return ContinualSummary(
        average_after=averages.tolist(),
        final_average=float(averages[-1]),
        average_incremental=average_incremental(results),
        change=change(results).tolist(),
        relative_change=relative_change(results).tolist(),
        backward_transfer=backward_transfer(results),
        forgetting=forgetting(results),
        learning_accuracy=learning_accuracy(results),
        forward_transfer=None if initial is None else forward_transfer(results, initial),
        intransigence=None if joint is None else intransigence(results, joint),
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else float("nan")


def _per_domain(values: np.ndarray, domains: int, name: str) -> np.ndarray:
    vector = np.asarray(values, dtype=np.float64)
    if vector.shape != (domains,):
        raise UserError(f"{name} results have shape {vector.shape}; expected one number for each of {domains} domains")
    return vector


def _json(value: float | list[float] | None) -> float | list[float] | None:
    if isinstance(value, list):
        return [_json(item) for item in value]
    return None if value is None or np.isnan(value) else value
