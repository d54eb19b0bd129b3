"""k-reciprocal re-ranking: ours, sparse and in blocks, against full matrices, in time and peak memory.

Synthetic features of a data set's size. All sides get features and give re-ranked distances, which must agree within
1e-4 but for one in a thousand (where rounding decides who is the 21st neighbour they may differ). Full matrices, our
own transcription and torchreid's, would take some 150 GiB at the size of MSMT17, so there ours runs alone.
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
from benchmarks._dense_rerank import dense_rerank
from benchmarks._retrieval import LABELS, Side
from benchmarks._retrieval_command import main_with_torchreid
from ppcls.metric.pairwise import SquaredEuclidean
from ppcls.metric.ranking import rank_distance
from ppcls.metric.rerank import k_reciprocal_blocks

TIMES = ("total", "products")


class Timed:
    """Counts the seconds inside the matrix products of the distances."""

    def __init__(self) -> None:
        self.seconds, plain = 0.0, SquaredEuclidean.tile

        def tile(*args: object) -> np.ndarray:
            begin = time.perf_counter()
            found = plain(*args)
            self.seconds += time.perf_counter() - begin
            return found

        SquaredEuclidean.tile = tile


def run_ours(data: dict[str, np.ndarray]) -> dict:
    """Re-ranked distances block by block, as evaluation reads them; ranking them is not timed."""
    timed, sampled, ranking = Timed(), [], 0.0
    begin = time.perf_counter()

    def blocks() -> Iterator[tuple[slice, np.ndarray]]:
        nonlocal ranking
        for rows, block in k_reciprocal_blocks(data["qf"], data["gf"]):
            handed = time.perf_counter()
            sampled.extend([] if sampled else _retrieval.sample(block))
            yield rows, block
            ranking += time.perf_counter() - handed

    result = rank_distance(blocks(), *(data[name] for name in LABELS))
    total = time.perf_counter() - begin - ranking
    return {"total": total, "products": timed.seconds, "mAP": result.mAP, "sample": sampled}


def run_dense(data: dict[str, np.ndarray]) -> dict:
    """The same with full matrices."""
    begin = time.perf_counter()
    distances, products = dense_rerank(data["qf"], data["gf"])
    total = time.perf_counter() - begin
    return {"total": total, "products": products, "sample": _retrieval.sample(distances)}


WORKERS = {"ours": run_ours, "dense": run_dense}


def compare(name: str, repeat: int, threads: int, torchreid_python: str | None) -> dict:
    """``{"size", "mAP", "agree", "sides"}``; ours alone at the size of MSMT17."""
    sides = [Side("ours", "ours", __file__)]
    if name != "msmt17":
        sides.append(Side("dense", "full matrices", __file__))
        if torchreid_python:
            sides.append(Side("torchreid-reranking", "torchreid", _torchreid_side.__file__, torchreid_python))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "features.npz"
        np.savez(path, **_retrieval.draw(name, "realistic"))
        found = _retrieval.measure(sides, path, repeat, threads, TIMES)
    ours, samples = found["ours"], [side.pop("sample") for side in found.values()]
    for side in found.values():
        side["memory"] = _retrieval.extra_memory(side)
        side["rest"] = side["total"] - side["products"]
        side["ratio_total"], side["ratio_rest"] = (side[kind] / ours[kind] for kind in ("total", "rest"))
    differing = [float(np.mean(np.abs(np.subtract(other, samples[0])) > 1e-4)) for other in samples[1:]]
    agree = all(share <= 1e-3 for share in differing)
    return {"size": name, "mAP": ours["mAP"], "agree": agree, "sides": found}


def text(result: Mapping) -> str:
    """Two lines per side."""
    lines = [f"mAP after re-ranking {result['mAP']:.1%}"]
    for side in result["sides"].values():
        lines.append(
            f"  {side['label']:14s} {side['total']:8.1f} s (without the distances' products {side['rest']:.1f} s), "
            f"peak memory beyond the features {side['memory']:.0f} MiB; "
            f"{side['ratio_total']:.1f}x ours ({side['ratio_rest']:.1f}x)"
        )
    return "\n".join(lines)


def markdown(result: Mapping) -> str:
    """One line per side."""
    lines = ["| | all | without the distances' products | memory beyond the features |", "|---|---|---|---|"]
    for side in result["sides"].values():
        ratios = [f" ({side[f'ratio_{kind}']:.1f}×)" if side["label"] != "ours" else "" for kind in ("total", "rest")]
        times = f"{side['total']:.1f} s{ratios[0]} | {side['rest']:.1f} s{ratios[1]}"
        lines.append(f"| {side['label']} | {times} | {side['memory']:.0f} MiB |")
    return "\n".join(lines)


def main() -> int:
    """Print the table; status 1 when the sides disagree."""
    return main_with_torchreid(__doc__, WORKERS, compare, text, lambda found: found["agree"])


if __name__ == "__main__":
    sys.exit(main())
