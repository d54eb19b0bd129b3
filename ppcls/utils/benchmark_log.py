"""The report of an inference benchmark, with the sections and the last lines that deployment test tools look for.

Field names follow AutoLog, the logger of PaddlePaddle's deployment examples, so that scripts that read those logs read
these. Percentiles are added. Figures come from /proc; without it (not Linux) memory is reported as None.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from ppcls.utils.tuning import usable_cores

STAGES = ("preprocess", "inference", "postprocess")
PERCENTILES = (50, 90, 99)
_RULE = 24


class BenchmarkLog:
    """Collects the time of each stage of each batch, and writes the report.

    Args:
        sections: further content, section name → field → value; see :func:`environment` for the first one.
    """

    def __init__(self, sections: Mapping[str, Mapping[str, Any]]):
        self.sections = {name: dict(fields) for name, fields in sections.items()}
        self._batches: dict[str, list[float]] = {stage: [] for stage in STAGES}
        self._images = 0

    def add(self, images: int, **seconds: float) -> None:
        """Record one batch of ``images``: seconds of each of :data:`STAGES`."""
        self._images += images
        for stage in STAGES:
            self._batches[stage].append(seconds[stage])

    def figures(self, total_seconds: float) -> dict[str, float]:
        """What was measured: milliseconds a batch of each stage (mean and percentiles), images a second, MB."""
        found = {"total_s": total_seconds, "images": self._images, "images_per_s": self._images / total_seconds}
        for stage, seconds in self._batches.items():
            found[f"{stage}_ms"] = 1000 * float(np.mean(seconds)) if seconds else 0.0
            for percentile in PERCENTILES:
                value = float(np.percentile(seconds, percentile)) if seconds else 0.0
                found[f"{stage}_ms_p{percentile}"] = 1000 * value
        return found

    def lines(self, total_seconds: float) -> list[str]:
        """The report; ``total_seconds``: of all batches, by the clock (the stages overlap, so their sum is more)."""
        found = self.figures(total_seconds)
        lines = []
        for name, fields in self.sections.items():
            lines += [_title(name), *(f" {key}: {value}" for key, value in fields.items())]
        lines += [_title("Perf info"), f" data_num: {self._images}", f" ips: {found['images_per_s']:.3f} images/s"]
        for stage in STAGES:
            shown = ", ".join(f"p{p}: {found[f'{stage}_ms_p{p}']:.3f}" for p in PERCENTILES)
            lines.append(f" {stage}_time(ms) of {len(self._batches[stage])} batches: {shown}")
        peak = peak_memory_mb()
        lines.append(f" cpu_rss(MB): {'None' if peak is None else f'{peak:.4f}'}, gpu_rss(MB): None, gpu_util: None%")
        lines.append(f" total time spent(s): {total_seconds:.4f}")
        lines.append(" " + ", ".join(f"{stage}_time(ms): {found[f'{stage}_ms']:.4f}" for stage in STAGES))
        return lines


def environment() -> dict[str, Any]:
    """The machine."""
    return {
        "OS_version": platform.platform(),
        "cpu": _cpu_name() or platform.machine(),
        "cpu_cores": f"{usable_cores()} usable of {os.cpu_count()}",
        "python_version": platform.python_version(),
    }


def package_version(name: str) -> str:
    """Of an installed package, without importing it; "None" if it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "None"


def peak_memory_mb() -> float | None:
    """Largest resident memory of this process so far, in MB (2**20 bytes); None where the system does not tell."""
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    lines = status.read_text(encoding="utf-8").splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), None)


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return ""
    lines = (line for line in info.read_text(errors="replace").splitlines() if line.startswith("model name"))
    return next(lines, "").partition(":")[2].strip()


def _title(name: str) -> str:
    return f"{'-' * _RULE} {name} {'-' * _RULE}"
