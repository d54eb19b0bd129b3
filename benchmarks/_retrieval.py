"""What the retrieval comparisons share: synthetic features of a data set's size, and sides run in turn.

Every run is a process of its own with the same number of threads, so its peak memory is its own. Sides take a ``.npz``
of features and labels, and print their figures as one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MIB = 2**20
#: Queries, gallery images, persons and cameras; the noise and the shift per person and camera (see :func:`draw`) that
#: give about 80 % mAP; queries that sides take part with whose memory the whole would exceed.
SIZES = {
    "market": {"queries": 3368, "gallery": 15913, "ids": 750, "cameras": 6, "size": 2048, "realistic": (0.74, 0.72)},
    "msmt17": {"queries": 11659, "gallery": 82161, "ids": 3060, "cameras": 15, "size": 2048, "realistic": (0.69, 0.67)},
    "small": {"queries": 200, "gallery": 3000, "ids": 60, "cameras": 6, "size": 64, "realistic": (0.74, 0.72)},
}
SLICE = {"market": 3368, "msmt17": 1000, "small": 200}
HOPELESS = (12.0, 12.0)
ACCURACIES = ("realistic", "hopeless")
LABELS = ("q_pids", "g_pids", "q_cams", "g_cams")


def draw(name: str, accuracy: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Features and labels: one centre per id, a shift per id and camera, noise; distractors (pid 0) a sixth.

    Noise lives in 64 random directions, as real embeddings do; in 2048 free ones every id would be found.
    """
    shape = SIZES[name]
    rng = np.random.default_rng(seed)
    basis = rng.standard_normal((64, shape["size"]), dtype=np.float32)
    noise, shift = HOPELESS if accuracy == "hopeless" else shape["realistic"]
    centres = rng.standard_normal((shape["ids"] + 1, 64), dtype=np.float32)
    shifts = np.float32(shift) * rng.standard_normal((shape["ids"] + 1, shape["cameras"], 64), dtype=np.float32)
    data = {}
    for side, count in (("q", shape["queries"]), ("g", shape["gallery"])):
        pids = rng.integers(1, shape["ids"] + 1, count)
        if side == "g":
            pids[rng.random(count) < 1 / 6] = 0
        cams = rng.integers(0, shape["cameras"], count)
        points = centres[pids] + shifts[pids, cams] * (pids > 0)[:, None]
        points[pids == 0] = np.sqrt(1 + shift**2) * rng.standard_normal((int((pids == 0).sum()), 64))
        points += np.float32(noise) * rng.standard_normal((count, 64), dtype=np.float32)
        data |= {f"{side}f": points @ basis, f"{side}_pids": pids, f"{side}_cams": cams}
    return data


def load(path: str) -> dict[str, np.ndarray]:
    """The arrays of a ``.npz`` file."""
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def peak() -> int:
    """This process's peak memory so far, bytes.

    Not that of ``getrusage``, which on Linux counts the parent's too if it is greater.
    """
    status = Path("/proc/self/status")
    if status.exists():
        return 1024 * int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text()).group(1))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def finish(report: dict, data: Mapping[str, np.ndarray]) -> None:
    """Print a worker's report with its peak memory and the share of the data in it, in bytes."""
    report["features"] = sum(array.nbytes for array in data.values())
    report["peak"] = peak()
    print(json.dumps(report))


@dataclass(frozen=True)
class Side:
    """One way of doing the work: ``python`` runs ``script --worker key path``."""

    key: str
    label: str
    script: str
    python: str = sys.executable


def run_side(side: Side, path: Path, threads: int) -> dict:
    """The report of one process.

    Raises:
        RuntimeError: it failed; the message ends with its last line.
    """
    count = {name: str(threads) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    argv = [side.python, "-W", "ignore", side.script, "--worker", side.key, str(path)]
    done = subprocess.run(argv, env=os.environ | count, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"benchmark process '{side.label}' failed: {done.stderr.strip().rpartition(chr(10))[2]}")
    return json.loads(done.stdout)


def measure(sides: Sequence[Side], path: Path, repeat: int, threads: int, times: Sequence[str]) -> dict[str, dict]:
    """Each side ``repeat`` times in turn; per side the least of each of ``times`` and the greatest peak."""
    runs: dict[str, list[dict]] = {side.key: [] for side in sides}
    for _ in range(repeat):
        for side in sides:
            runs[side.key].append(run_side(side, path, threads))
    best = {}
    for side in sides:
        reports = runs[side.key]
        best[side.key] = reports[0] | {key: min(report[key] for report in reports) for key in times}
        best[side.key] |= {"peak": max(report["peak"] for report in reports), "label": side.label}
    return best


def extra_memory(side: Mapping) -> float:
    """MiB of a side's peak that are not its input."""
    return (side["peak"] - side["features"]) / MIB


def sample(matrix: np.ndarray) -> list[float]:
    """Some entries of the first 512 rows, to be compared between sides."""
    return matrix[:512:37, ::37].ravel().tolist()


def add_torchreid_flag(parser: argparse.ArgumentParser) -> None:
    """``--torchreid-python``."""
    parser.add_argument(
        "--torchreid-python",
        metavar="PATH",
        help="interpreter with torch and torchreid (default: this one if it has them); none: leave torchreid out",
    )


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that these comparisons share."""
    parser.add_argument("--small", action="store_true", help="a toy size: checks that all runs, figures mean nothing")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each side (default: 3)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of each side (default: all cores)")
    parser.add_argument("--json", metavar="PATH", help="also write the figures there")
    parser.add_argument("--worker", nargs=2, metavar=("SIDE", "PATH"), help=argparse.SUPPRESS)


def work(asked: Sequence[str], workers: Mapping[str, Callable[[dict], dict]]) -> int:
    """Be one side: ``asked`` is (side, path of the data)."""
    key, path = asked
    data = load(path)
    finish(workers[key](data), data)
    return 0
