"""What a measured process hands back, and the matrix product that both frameworks are timed on."""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Callable
from pathlib import Path

GEMM_REPEATS = 12


def best_gemm(multiply: Callable[[], object], size: int) -> float:
    """GFLOP/s of the fastest of some products of two ``size`` × ``size`` matrices."""
    multiply()
    seconds = []
    for _ in range(GEMM_REPEATS):
        begin = time.perf_counter()
        multiply()
        seconds.append(time.perf_counter() - begin)
    return 2 * size**3 / min(seconds) / 1e9


def write_report(path: Path, about: str, **measured: object) -> None:
    """What was measured, and the peak memory of this process, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    path.write_text(json.dumps({"about": about, **measured, "peak": peak}))
