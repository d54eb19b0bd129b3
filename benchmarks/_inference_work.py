"""What every row of the inference comparison does with its network; NumPy alone, as the rows' environments differ."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks._workload import Job, draw_images

BATCHES = (1, 16, 64)
#: Largest difference from the training network, relative to its largest output, as in the export's parity gate.
LIMIT = 1e-4
_REFERENCE = "reference.npy"


def passes(batch: int, steps: int) -> int:
    """Timed forward passes of one row in one round: many of the short ones, for the sake of their percentiles."""
    return {1: 32 * steps, 16: steps, 64: math.ceil(steps / 3)}[batch]


def images(job: Job) -> np.ndarray:
    """Normalised pictures, float32 [64, 3, H, W]."""
    return draw_images(job, 0, "inference", 0, max(BATCHES))


def write_reference(folder: Path, outputs: np.ndarray) -> None:
    """The training network's answers to :func:`images`, float32 [64, D]."""
    np.save(folder / _REFERENCE, outputs)


def measure(job: Job, folder: Path, run: Callable[[np.ndarray], np.ndarray]) -> dict[str, object]:
    """``seconds`` of each timed pass by batch size, ``difference`` from the training network over all batch sizes.

    The first pass of each size is not timed: backends allocate, and compilers compile, when they see a new shape.
    """
    pictures, reference = images(job), np.load(folder / _REFERENCE)
    seconds: dict[str, list[float]] = {}
    differences = []
    for batch in BATCHES:
        share = np.ascontiguousarray(pictures[:batch])
        off = np.abs(run(share).astype(np.float64) - reference[:batch])
        differences.append(float(off.max() / np.abs(reference).max()))
        seconds[str(batch)] = []
        for _ in range(passes(batch, job.steps)):
            begin = time.perf_counter()
            run(share)
            seconds[str(batch)].append(time.perf_counter() - begin)
    return {"seconds": seconds, "difference": float(np.max(differences))}  # NaN if any is
