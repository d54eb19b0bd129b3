"""What a stream has shown: result matrices, the figures of continual learning, tables and pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ppcls.engine.figures import curves, matrix_heatmap
from ppcls.engine.stream.plan import Stage
from ppcls.engine.stream.work import read_evaluation
from ppcls.metric.continual import ContinualSummary, average_after, summarise
from ppcls.utils.files import atomic_write_json, atomic_write_text

FIGURES: dict[str, Callable[[Mapping[str, Any]], float]] = {
    "mAP": lambda result: result["mAP"],
    "R1": lambda result: result["cmc"]["1"],
}
"""What is read from an evaluation's entry, by the name it has in the report."""

_SUMMARY = {
    "final_average": "average over the domains after the last task",
    "average_incremental": "average incremental (mean of the averages)",
    "forgetting": "forgetting (best earlier − last, mean; lower is better)",
    "backward_transfer": "backward transfer (last − when learned, mean)",
    "forward_transfer": "forward transfer (before learning − untrained, mean)",
    "learning_accuracy": "learning accuracy (each domain when learned)",
}


@dataclass
class StreamReport:
    """Result of a stream of T tasks; all figures are fractions of 1.

    Attributes:
        folder: of the stream.
        tasks: data sets as they were named; ``names``: their short names.
        matrices: figure ("mAP", "R1") → R float64 [T, T], R[t, d] on domain d after task t, NaN = not evaluated.
        initial: figure → float64 [T] of the untrained network; None unless evaluated.
        options: of the stream.
        products: stage → digest of what it left (checkpoint, dreams).
        deleted: one entry per deletion: what, files, bytes, kept, links.
    """

    folder: Path
    tasks: list[str]
    names: list[str]
    matrices: dict[str, np.ndarray]
    initial: dict[str, np.ndarray] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    products: dict[str, str] = field(default_factory=dict)
    deleted: list[dict[str, Any]] = field(default_factory=list)

    def summary(self, figure: str) -> ContinualSummary:
        """Average, forgetting, transfer … of one figure."""
        return summarise(self.matrices[figure], initial=None if self.initial is None else self.initial[figure])

    def as_dict(self) -> dict[str, Any]:
        """Everything, JSON-ready; a figure that was not evaluated or is not defined is None."""
        return {
            "tasks": self.tasks,
            "names": self.names,
            "matrices": {figure: _plain(matrix) for figure, matrix in self.matrices.items()},
            "initial": None if self.initial is None else {name: _plain(row) for name, row in self.initial.items()},
            "summary": {figure: self.summary(figure).as_dict() for figure in self.matrices},
            "products": self.products,
            "deleted": self.deleted,
            "options": self.options,
        }

    def markdown(self) -> str:
        """The matrices and the summary as Markdown tables, in percent."""
        blocks = [f"# {' → '.join(self.names)}"]
        for figure, matrix in self.matrices.items():
            rows = [
                [f"{task}: {name}", *map(_percent, row), _percent(mean)]
                for task, (name, row, mean) in enumerate(zip(self.names, matrix, average_after(matrix), strict=True), 1)
            ]
            if self.initial is not None:
                rows.insert(0, ["untrained", *map(_percent, self.initial[figure]), ""])
            blocks += [f"## {figure} (%)", _table(["after learning", *self.names, "average so far"], rows)]
        blocks += ["## Summary (%)", _table(["", *self.matrices], self._summary_rows())]
        if self.deleted:
            rows = [[entry["what"], str(entry["files"]), str(entry["bytes"])] for entry in self.deleted]
            blocks += ["## Deleted data", _table(["what", "files", "bytes"], rows)]
        return "\n\n".join(blocks) + "\n"

    def write(self) -> None:
        """``report.json``, ``report.md``, a heat map per figure and ``curves.png`` in the stream's folder."""
        atomic_write_json(self.folder / "report.json", self.as_dict())
        atomic_write_text(self.folder / "report.md", self.markdown())
        for figure, matrix in self.matrices.items():
            title = f"{figure} (%), final average {_percent(average_after(matrix)[-1])}"
            matrix_heatmap(100 * matrix, self.names, self.names, title, self.folder / f"{figure}.png")
        self._draw_curves()

    def _summary_rows(self) -> list[list[str]]:
        summaries = [self.summary(figure).as_dict() for figure in self.matrices]
        rows = [[title, *(_percent(s[key]) for s in summaries)] for key, title in _SUMMARY.items()]
        for domain, name in enumerate(self.names[:-1]):
            rows.append([f"change on {name} since it was learned", *(_percent(s["change"][domain]) for s in summaries)])
        return rows

    def _draw_curves(self) -> None:
        """Each domain from the task on that learned it (or from the first evaluation), and the average."""
        figure, matrix = next(iter(self.matrices.items()))
        after = np.arange(1, len(matrix) + 1)
        series = {}
        for domain, name in enumerate(self.names):
            known = np.isfinite(matrix[:, domain])
            series[name] = (after[known], 100 * matrix[known, domain])
        series["average so far"] = (after, 100 * average_after(matrix))
        curves(series, "tasks learned", f"{figure} (%)", self.folder / "curves.png", title=" → ".join(self.names))


def result_matrices(
    tasks: Sequence[str], stages: Sequence[Stage], root: Path
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray] | None]:
    """(matrices, initial) from the evaluation stages' files; a mixed data set counts with its mean."""
    shape = (len(tasks), len(tasks))
    matrices = {figure: np.full(shape, np.nan) for figure in FIGURES}
    initial = None
    for stage in stages:
        if stage.kind != "evaluate":
            continue
        results = read_evaluation(root / stage.name)["results"]
        values = {figure: [_entry(results, task, stage, read) for task in tasks] for figure, read in FIGURES.items()}
        if stage.task == 0:
            initial = {figure: np.array(row) for figure, row in values.items()}
            continue
        for figure, row in values.items():
            matrices[figure][stage.task - 1] = row
    return matrices, initial


def _entry(results: Mapping[str, Any], task: str, stage: Stage, read: Callable[[Mapping[str, Any]], float]) -> float:
    """What was evaluated in an earlier, wider run of the stream does not count unless it is asked for."""
    return float(read(results[task][-1])) if task in stage.parts else float("nan")


def _plain(values: np.ndarray) -> list[Any]:
    if values.ndim > 1:
        return [_plain(row) for row in values]
    return [float(value) if np.isfinite(value) else None for value in values]


def _percent(value: float | None) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{100 * value:.1f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns are aligned for reading as plain text, too."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        return f"| {' | '.join(cells)} |"

    rule = [f"{'-' * widths[0]}", *(f"{'-' * (width - 1)}:" for width in widths[1:])]
    return "\n".join([line(head), f"| {' | '.join(rule)} |", *map(line, rows)])
