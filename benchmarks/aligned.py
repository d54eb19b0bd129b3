"""AlignedReID++'s local distance (DMLI) of all query and gallery images: ours against a loop over pairs.

Eight stripes of 128 numbers (the training branch) and of 2048 (what the published evaluation compares), at the size of
Market-1501. The loop takes an hour, so it computes a few thousand pairs, spread over the whole matrix, and its time is
multiplied; ours computes a slice of the queries against the whole gallery, at least one full tile, and is multiplied
too unless ``--whole`` is given. The loop comes in three forms of its recursion: with a NumPy call for each cell, as in
the public code; on arrays; on lists. All must agree within 1e-4 on the loops' pairs.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks import _retrieval
from benchmarks._pair_loop import local_distances
from benchmarks._retrieval import SIZES, Side
from benchmarks._retrieval_command import report
from ppcls.metric.aligned import Stripes, as_stripes
from ppcls.metric.pairwise import distance_blocks

STRIPES = 8
DIMENSIONS = {"market": (128, 2048), "small": (16,)}
#: Queries of ours' slice, and rows and columns of the loop's.
SLICE = {"market": (512, 40, 100), "small": (200, 10, 20)}


def draw(name: str, dimension: int, queries: int) -> dict[str, np.ndarray]:
    """Unit stripes: an image's own direction in all of them, and noise."""
    rng = np.random.default_rng(dimension)
    data = {}
    for side, count in (("query", queries), ("gallery", SIZES[name]["gallery"])):
        stripes = rng.standard_normal((count, STRIPES, dimension), dtype=np.float32)
        stripes += rng.standard_normal((count, 1, dimension), dtype=np.float32)
        data[side] = as_stripes(stripes)
    return data


def run_ours(data: dict[str, np.ndarray]) -> dict:
    """All pairs of the file."""
    sampled = np.ix_(data["rows"], data["columns"])
    begin = time.perf_counter()
    blocks = [block for _, block in distance_blocks(Stripes(data["query"], data["gallery"]))]
    seconds = time.perf_counter() - begin
    matrix = np.concatenate(blocks)
    return {"seconds": seconds / matrix.size, "sample": matrix[sampled].ravel().tolist()}


def run_loop(data: dict[str, np.ndarray], form: str) -> dict:
    """The sampled pairs alone."""
    query, gallery = data["query"][data["rows"]], data["gallery"][data["columns"]]
    begin = time.perf_counter()
    matrix = local_distances(query, gallery, form)
    return {"seconds": (time.perf_counter() - begin) / matrix.size, "sample": matrix.ravel().tolist()}


LABELS = {
    "ours": "ours",
    "cells": "loop, NumPy per cell",
    "arrays": "loop on arrays",
    "lists": "loop on lists",
}
WORKERS = {"ours": run_ours} | {form: functools.partial(run_loop, form=form) for form in list(LABELS)[1:]}


def compare(name: str, repeat: int, threads: int, whole: bool) -> dict[str, dict]:
    """``{dimension: {"agree", "computed", "sides": {side: seconds of all pairs, ratio}}}``."""
    shape, (queries, rows, columns) = SIZES[name], SLICE[name]
    queries = shape["queries"] if whole else queries
    results = {}
    for dimension in DIMENSIONS[name]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "stripes.npz"
            spread = {
                key: np.linspace(0, count - 1, number).astype(int)
                for key, count, number in (("rows", queries, rows), ("columns", shape["gallery"], columns))
            }
            np.savez(path, **draw(name, dimension, queries), **spread)
            sides = [Side(key, label, __file__) for key, label in LABELS.items()]
            found = _retrieval.measure(sides, path, repeat, threads, ("seconds",))
        samples = [side.pop("sample") for side in found.values()]
        for side in found.values():
            side["memory"] = _retrieval.extra_memory(side)
            side["total"] = side["seconds"] * shape["queries"] * shape["gallery"]
            side["ratio"] = side["seconds"] / found["ours"]["seconds"]
        results[str(dimension)] = {
            "agree": all(np.allclose(sample, samples[0], atol=1e-4) for sample in samples[1:]),
            "computed": queries / shape["queries"],
            "sides": found,
        }
    return results


def text(results: Mapping[str, Mapping]) -> str:
    """A line per side, and ours' memory."""
    lines = []
    for dimension, found in results.items():
        lines.append(
            f"{STRIPES} stripes of {dimension}: ({found['computed']:.0%} of ours computed, loops extrapolated)"
        )
        for side in found["sides"].values():
            lines.append(f"  {side['label']:26s} {side['total']:8.1f} s   ratio {side['ratio']:5.1f}x")
        memory = found["sides"]["ours"]["memory"]
        lines.append(f"  peak memory beyond the features, matrix included: ours {memory:.0f} MiB")
    return "\n".join(lines)


def markdown(results: Mapping[str, Mapping]) -> str:
    """One line per size of a stripe."""
    lines = ["| | " + " | ".join(LABELS.values()) + " |", "|" + "---|" * (len(LABELS) + 1)]
    for dimension, found in results.items():
        ours, *loops = found["sides"].values()
        times = " | ".join(f"{side['total']:.0f} s ({side['ratio']:.0f}×)" for side in loops)
        lines.append(f"| {STRIPES} stripes of {dimension} | {ours['total']:.1f} s | {times} |")
    return "\n".join(lines)


def main() -> int:
    """Print the table; status 1 when the sides disagree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    _retrieval.add_flags(parser)
    parser.add_argument("--whole", action="store_true", help="ours computes the whole matrix (minutes)")
    args = parser.parse_args()
    if args.worker:
        return _retrieval.work(args.worker, WORKERS)
    name = "small" if args.small else "market"
    print("{queries} queries x {gallery} gallery images".format(**SIZES[name]))
    results = compare(name, 1 if args.small else args.repeat, args.threads, args.whole)
    agree = all(found["agree"] for found in results.values())
    return report(results, text(results), agree, args.json)


if __name__ == "__main__":
    sys.exit(main())
