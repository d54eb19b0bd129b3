"""Evaluation (distance + ranking): ours against full-sort ranking, in time and peak memory.

Synthetic features of Market-1501's size (3,368 queries × 15,913 gallery images × 2048) at a realistic
accuracy and at a hopeless one. Both sides run in turn, each run in a process of its own, so that peak memory
is its own; the printed times are the least of each side's runs. Both must agree on mAP and CMC.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks._peers import cosine_distance, full_sort_rank
from ppcls.metric.distance import Scorer, score_strips
from ppcls.metric.ranking import Labels, rank_strips
from ppcls.utils.files import atomic_write_json

MARKET = {"queries": 3368, "gallery": 15913, "ids": 750, "size": 2048}
SMALL = {"queries": 200, "gallery": 3000, "ids": 60, "size": 64}
# Standard deviations of the noise and of the shift per id and camera, that of the ids' centres being 1.
ACCURACY = {"realistic": (0.71, 0.68), "hopeless": (12.0, 12.0)}
CAMERAS = 6


def draw(shape: dict[str, int], accuracy: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Features and labels: one centre per id, a shift per id and camera, noise; distractors (pid 0) a sixth.

    Noise lives in 64 random directions, as real embeddings do; in 2048 free ones every id would be found.
    """
    rng = np.random.default_rng(seed)
    basis = rng.standard_normal((64, shape["size"]), dtype=np.float32)
    noise, shift = ACCURACY[accuracy]
    centres = rng.standard_normal((shape["ids"] + 1, 64), dtype=np.float32)
    shifts = shift * rng.standard_normal((shape["ids"] + 1, CAMERAS, 64), dtype=np.float32)
    data = {}
    for side, count in (("q", shape["queries"]), ("g", shape["gallery"])):
        pids = rng.integers(1, shape["ids"] + 1, count)
        if side == "g":
            pids[rng.random(count) < 1 / 6] = 0
        cams = rng.integers(0, CAMERAS, count)
        points = centres[pids] + shifts[pids, cams] * (pids > 0)[:, None]
        points[pids == 0] = np.sqrt(1 + shift**2) * rng.standard_normal((int((pids == 0).sum()), 64))
        points += noise * rng.standard_normal((count, 64), dtype=np.float32)
        data |= {f"{side}f": points @ basis, f"{side}_pids": pids, f"{side}_cams": cams}
    return data


def run_ours(data: dict[str, np.ndarray]) -> dict[str, float | list[float]]:
    """The path of ``rank``, with the time inside the score generator counted as distance."""
    spent = 0.0
    begin = time.perf_counter()
    labels = Labels(data["q_pids"], data["g_pids"], data["q_cams"], data["g_cams"])
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
    return {"total": total, "ranking": total - spent, "mAP": result.mAP, "cmc": result.cmc.tolist()}


def run_peer(data: dict[str, np.ndarray]) -> dict[str, float | list[float]]:
    """One distance matrix, then the full sort and the sweep."""
    begin = time.perf_counter()
    distance = cosine_distance(data["qf"], data["gf"])
    middle = time.perf_counter()
    value, cmc = full_sort_rank(distance, data["q_pids"], data["g_pids"], data["q_cams"], data["g_cams"])
    end = time.perf_counter()
    return {"total": end - begin, "ranking": end - middle, "mAP": value, "cmc": cmc.tolist()}


def worker(side: str, path: str) -> None:
    """Load the features, run one side, print its figures as JSON."""
    with np.load(path) as arrays:
        data = {name: arrays[name] for name in arrays.files}
    report = run_ours(data) if side == "ours" else run_peer(data)
    report["features"] = data["qf"].nbytes + data["gf"].nbytes
    report["peak"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(report))


def measure(path: Path, repeat: int) -> dict[str, dict]:
    """Both sides ``repeat`` times in turn; per side the least time of each kind and the greatest peak."""
    runs: dict[str, list[dict]] = {"ours": [], "peer": []}
    for _ in range(repeat):
        for side, reports in runs.items():
            command = [sys.executable, __file__, "--worker", side, str(path)]
            reports.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    best = {}
    for side, reports in runs.items():
        best[side] = reports[0] | {key: min(report[key] for report in reports) for key in ("total", "ranking")}
        best[side]["peak"] = max(report["peak"] for report in reports)
    return best


def compare(small: bool, repeat: int) -> dict[str, dict]:
    """``{accuracy: {"ours", "peer", "ratio_ranking", "ratio_total", "agree"}}``, the sides as in :func:`measure`."""
    results = {}
    for accuracy in ACCURACY:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "features.npz"
            np.savez(path, **draw(SMALL if small else MARKET, accuracy))
            best = measure(path, 1 if small else repeat)
        ours, peer = best["ours"], best["peer"]
        agree = bool(np.allclose([ours.pop("mAP"), *ours.pop("cmc")], [peer["mAP"], *peer.pop("cmc")], atol=1e-4))
        ratio = {f"ratio_{kind}": peer[kind] / ours[kind] for kind in ("ranking", "total")}
        results[accuracy] = {**best, **ratio, "mAP": peer.pop("mAP"), "agree": agree}
    return results


def text(results: dict[str, dict]) -> str:
    """Three lines per accuracy."""
    lines = []
    for accuracy, found in results.items():
        ours, peer = found["ours"], found["peer"]
        lines.append(f"{accuracy}: mAP {found['mAP']:.1%}")
        for kind in ("ranking", "total"):
            sides = f"ours {ours[kind]:7.3f} s   full sort {peer[kind]:7.3f} s"
            lines.append(f"  {kind:8s} {sides}   ratio {found[f'ratio_{kind}']:5.1f}x")
        mine, other = (extra_memory(side) / 2**20 for side in (ours, peer))
        lines.append(f"  peak memory beyond the features: ours {mine:6.0f} MiB   full sort {other:6.0f} MiB")
    return "\n".join(lines)


def extra_memory(side: dict) -> float:
    """Bytes of one side's peak that are not the features themselves."""
    return side["peak"] - side["features"]


def markdown(results: dict[str, dict]) -> str:
    """One line per accuracy and kind of time."""
    lines = ["| | ours | full sort | ratio | memory beyond the features, ours (full sort) |", "|---|---|---|---|---|"]
    for accuracy, found in results.items():
        ours, peer = found["ours"], found["peer"]
        memory = f"{extra_memory(ours) / 2**20:.0f} MiB ({extra_memory(peer) / 2**20:.0f} MiB)"
        for kind, label in (("ranking", "ranking"), ("total", "distance and ranking")):
            times = f"{ours[kind]:.2f} s | {peer[kind]:.2f} s | {found[f'ratio_{kind}']:.1f}×"
            lines.append(f"| {label}, mAP {found['mAP']:.0%} ({accuracy}) | {times} | {memory} |")
    return "\n".join(lines)


def main() -> int:
    """Print the table; status 1 when the two sides disagree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a few seconds instead of a minute; figures mean little")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each side (default: 3)")
    parser.add_argument("--json", metavar="PATH", help="also write the figures there")
    parser.add_argument("--worker", nargs=2, metavar=("SIDE", "PATH"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        worker(*args.worker)
        return 0
    print("{queries} queries x {gallery} gallery images x {size}".format(**(SMALL if args.small else MARKET)))
    results = compare(args.small, args.repeat)
    print(text(results))
    if args.json:
        atomic_write_json(args.json, results)
    if all(found["agree"] for found in results.values()):
        return 0
    print("error: the two sides disagree on mAP or CMC", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
