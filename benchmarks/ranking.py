"""Evaluation (distance + ranking): ours against full-sort ranking and torchreid, in time and peak memory.

Synthetic features of a data set's size at a realistic accuracy and at a hopeless one. All sides must agree on mAP. At
the size of MSMT17 the others rank the first 1,000 queries only, for they would need some 20 GiB; their times and what
memory they take beyond their interpreter are multiplied by 11.659, which is fair: both are proportional to the queries.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks import _retrieval, _torchreid_side
from benchmarks._peers import cosine_distance, full_sort_rank
from benchmarks._retrieval import ACCURACIES, LABELS, SIZES, SLICE, Side
from benchmarks._retrieval_command import main_with_torchreid
from ppcls.metric.distance import Scorer, score_strips
from ppcls.metric.ranking import Labels, rank_strips

TIMES = ("total", "ranking")


def run_ours(data: dict[str, np.ndarray]) -> dict[str, float | list[float]]:
    """The path of ``rank``, with the time inside the score generator counted as distance."""
    spent = 0.0
    begin = time.perf_counter()
    labels = Labels(*(data[name] for name in LABELS))
    before = time.perf_counter()
    strips = score_strips(Scorer(data["qf"], data["gf"], "cosine"))
    spent += time.perf_counter() - before

    def timed() -> Iterator:
        nonlocal spent
        while True:
            before = time.perf_counter()
            item = next(strips, None)
            spent += time.perf_counter() - before
            if item is None:
                return
            yield item

    result = rank_strips(timed(), labels)
    total = time.perf_counter() - begin
    of_slice = float(np.nanmean(result.ap_per_query[: int(data["slice"])]))
    return {"total": total, "ranking": total - spent, "mAP": result.mAP, "mAP_of_slice": of_slice}


def run_full_sort(data: dict[str, np.ndarray]) -> dict[str, float | list[float]]:
    """One distance matrix, then the full sort and the sweep."""
    chosen, idle = slice(int(data["slice"])), _retrieval.peak()
    begin = time.perf_counter()
    distance = cosine_distance(data["qf"][chosen], data["gf"])
    middle = time.perf_counter()
    sides = [data[name][chosen] if name.startswith("q") else data[name] for name in LABELS]
    value, _ = full_sort_rank(distance, *sides)
    end = time.perf_counter()
    return {"total": end - begin, "ranking": end - middle, "mAP": value, "idle": idle}


WORKERS = {"ours": run_ours, "full_sort": run_full_sort}


def sides_of(torchreid_python: str | None) -> list[Side]:
    """Ours first, then the others."""
    sides = [Side("ours", "ours", __file__), Side("full_sort", "full sort", __file__)]
    if torchreid_python:
        sides.append(Side("torchreid-ranking", "torchreid", _torchreid_side.__file__, torchreid_python))
    return sides


def compare(name: str, repeat: int, threads: int, torchreid_python: str | None) -> dict[str, dict]:
    """``{accuracy: {"mAP", "agree", "sides": {side: times, peak, ratios}}}`` at the size ``name``."""
    results = {}
    for accuracy in ACCURACIES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "features.npz"
            np.savez(path, **_retrieval.draw(name, accuracy), slice=SLICE[name])
            found = _retrieval.measure(sides_of(torchreid_python), path, repeat, threads, TIMES)
        ours, whole = found["ours"], SIZES[name]["queries"] / SLICE[name]
        for key, side in found.items():
            idle = (side.get("idle", side["features"]) - side["features"]) / _retrieval.MIB
            side["memory"] = idle + (_retrieval.extra_memory(side) - idle) * (1 if key == "ours" else whole)
            for kind in TIMES:
                side[kind] *= 1 if key == "ours" else whole
                side[f"ratio_{kind}"] = side[kind] / ours[kind]
        others = [side["mAP"] for key, side in found.items() if key != "ours"]
        agree = bool(np.allclose(others, ours["mAP_of_slice"], atol=1e-4))
        results[accuracy] = {"size": name, "mAP": ours["mAP"], "agree": agree, "sides": found}
    return results


def text(results: Mapping[str, Mapping]) -> str:
    """Three lines per accuracy."""
    lines = []
    for accuracy, found in results.items():
        ours, *others = found["sides"].values()
        lines.append(f"{accuracy}: mAP {found['mAP']:.1%}")
        for kind in ("ranking", "total"):
            parts = [f"{side['label']} {side[kind]:8.3f} s   ratio {side[f'ratio_{kind}']:5.1f}x" for side in others]
            lines.append(f"  {kind:8s} ours {ours[kind]:7.3f} s   " + "   ".join(parts))
        memory = "   ".join(f"{side['label']} {side['memory']:6.0f} MiB" for side in (ours, *others))
        lines.append(f"  peak memory beyond the features: {memory}")
    return "\n".join(lines)


def markdown(results: Mapping[str, Mapping]) -> str:
    """One line per accuracy, peer and kind of time."""
    lines = ["| | ours | other | ratio | memory beyond the features, ours (other) |", "|---|---|---|---|---|"]
    for accuracy, found in results.items():
        ours, *others = found["sides"].values()
        for side in others:
            memory = f"{ours['memory']:.0f} MiB ({side['memory']:.0f} MiB)"
            for kind, label in (("ranking", "ranking"), ("total", "distance and ranking")):
                times = f"{ours[kind]:.2f} s | {side['label']} {side[kind]:.2f} s | {side[f'ratio_{kind}']:.1f}×"
                lines.append(f"| {label}, mAP {found['mAP']:.0%} ({accuracy}) | {times} | {memory} |")
    return "\n".join(lines)


def agree(results: Mapping[str, Mapping]) -> bool:
    """Whether the sides agree at every accuracy."""
    return all(found["agree"] for found in results.values())


def main() -> int:
    """Print the table; status 1 when the sides disagree."""
    return main_with_torchreid(__doc__, WORKERS, compare, text, agree)


if __name__ == "__main__":
    sys.exit(main())
