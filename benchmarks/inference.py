"""Answers of an exported ResNet-50 at 256 x 128: our predictors against an equal network in PyTorch.

Latency of one image, throughput in batches of 16 and 64, peak memory, and the difference from the training network,
for Paddle Inference with and without oneDNN, onnxruntime and OpenVINO, and for PyTorch as written, compiled, and
compiled with its weights folded in. All with the same weights and images, with --threads threads and again with one,
in turn, each in a process of its own. Says which backend "auto" takes, and whether any other is faster.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks._inference_work import BATCHES, LIMIT, passes
from benchmarks._measure import (
    KEEP_FREED_MEMORY,
    Others,
    Row,
    Settings,
    add_flags,
    processor,
    run_command,
    run_once,
    settings_of,
)
from ppcls.utils.tuning import usable_cores

OURS, PEER = "_inference_ours.py", "_inference_torch.py"
#: Speeds closer than this are the same: two runs on a quiet machine differ by as much.
NOISE = 0.05
_BACKENDS = {
    "onnxruntime": "onnxruntime",
    "openvino": "OpenVINO, float32",
    "paddle": "Paddle, oneDNN",
    "paddle-plain": "Paddle, no oneDNN",
}
_PEERS = {
    "eager": "PyTorch",
    "eager-tuned": "PyTorch, freed memory kept",
    "compiled": "PyTorch, compiled",
    "frozen": "PyTorch, compiled, weights folded",
}


def export_row(folder: Path) -> Row:
    """The process that makes the model which all others run."""
    return Row("export", "export", sys.executable, OURS, arguments=("export", str(folder)))


def rows_of(settings: Settings, folder: Path) -> tuple[list[Row], list[str]]:
    """(what is compared, why something is not)."""
    rows, missing = [], []
    for key, label in _BACKENDS.items():
        if importlib.util.find_spec(key.partition("-")[0]) is None:
            missing.append(f"{label} skipped: not installed; install requirements-bench.txt.")
        else:
            rows.append(Row(key, label, sys.executable, OURS, arguments=(key, str(folder))))
    if not settings.torch_python:
        return rows, [*missing, f"PyTorch skipped: {settings.no_peer}."]
    cache = (("TORCHINDUCTOR_CACHE_DIR", str(folder / "compiled")),)  # what a round has compiled, the next ones load
    for key, label in _PEERS.items():
        how, _, tuned = key.partition("-")
        if settings.small and how != "eager":  # minutes of compiling for seconds of measuring
            continue
        extra = (*cache, *(KEEP_FREED_MEMORY if tuned else ()))
        rows.append(Row(key, label, settings.torch_python, PEER, extra=extra, arguments=(how, str(folder))))
    return rows, missing


def compare(settings: Settings) -> dict:
    """All rows, ``repeat`` rounds in turn, summed up; plain values for JSON."""
    job = settings.job("inference")
    counts = sorted({settings.threads, 1}, reverse=True)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        auto = run_once(export_row(folder), job)["auto"]
        rows, missing = rows_of(settings, folder)
        others = Others()
        reports: dict[tuple[int, str], list[dict]] = {(count, row.key): [] for count in counts for row in rows}
        for _ in range(settings.repeat):
            for count, row in ((count, row) for count in counts for row in rows):
                reports[count, row.key].append(run_once(row, settings.job("inference", threads=count)))
        busy = others.cores()
    threads = {
        str(count): with_ratios({row.key: summary(row.label, reports[count, row.key]) for row in rows})
        for count in counts
    }
    found = [row for table in threads.values() for row in table.values()]
    return {
        "job": job.as_dict(),
        "repeat": settings.repeat,
        "machine": {"processor": processor(), "cores": usable_cores(), "others": busy},
        "auto": auto,
        "missing": missing,
        "threads": threads,
        "agree": all(row["difference"] <= LIMIT for row in found),
    }


def summary(label: str, reports: Sequence[Mapping]) -> dict:
    """Latencies in ms and images/s over the timed passes of all rounds."""
    seconds = {batch: [value for report in reports for value in report["seconds"][str(batch)]] for batch in BATCHES}
    return {
        "label": label,
        "about": reports[0]["about"],
        "seconds": {str(batch): values for batch, values in seconds.items()},
        "p50": float(np.percentile(seconds[1], 50)) * 1e3,
        "p99": float(np.percentile(seconds[1], 99)) * 1e3,
        "speed": {str(batch): batch / statistics.median(seconds[batch]) for batch in BATCHES},
        "peak": max(report["peak"] for report in reports),
        "difference": max(report["difference"] for report in reports),
    }


def with_ratios(rows: dict[str, dict]) -> dict[str, dict]:
    """Each row's speed, by batch size, in units of PyTorch's as written; None without it."""
    peer = rows.get("eager")
    for row in rows.values():
        row["ratio"] = {key: value / peer["speed"][key] for key, value in row["speed"].items()} if peer else None
    return rows


def verdict(result: Mapping) -> Iterator[str]:
    """How the backend that "auto" takes compares with the fastest of ours that agrees with the training network."""
    auto, labels = result["auto"], _BACKENDS
    yield f'"auto" takes {labels[auto]}.'
    for count, rows in result["threads"].items():
        passing = {key: row for key, row in rows.items() if key in labels and row["difference"] <= LIMIT}
        if auto not in passing:
            yield f"{count} thread(s): it differs by more than {LIMIT:.0e} from the training network."
            continue
        for batch in map(str, BATCHES):
            fastest = max(passing, key=lambda key, batch=batch: passing[key]["speed"][batch])
            lead = passing[fastest]["speed"][batch] / passing[auto]["speed"][batch] - 1
            if lead > NOISE:
                yield f"{count} thread(s), batch {batch}: {labels[fastest]} is {lead:.0%} FASTER."
            elif fastest == auto:
                yield f"{count} thread(s), batch {batch}: the fastest of ours."
            else:
                yield f"{count} thread(s), batch {batch}: equal to the fastest, {labels[fastest]} (+{lead:.1%})."


def title(result: Mapping) -> str:
    """What was done, how large, how often, where."""
    job, machine = result["job"], result["machine"]
    size = f"ResNet-{job['depth']}, {job['height']} x {job['width']}"
    counts = ", ".join(f"{passes(batch, job['steps'])} of {batch}" for batch in BATCHES)
    return (
        f"inference: {size}, {result['repeat']} round(s) of {counts}; {machine['processor']}, {machine['cores']} cores"
    )


_HEAD = ("p50 ms", "p99 ms", "batch 1", "batch 16", "batch 64", "memory", "difference")


def cells(row: Mapping) -> list[str]:
    """A line of the table under ``_HEAD``: milliseconds, then images/s with the ratio to PyTorch."""
    speeds = []
    for key, value in row["speed"].items():
        speeds.append(f"{value:.1f} ({row['ratio'][key]:.2f}x)" if row["ratio"] else f"{value:.1f}")
    return [
        f"{row['p50']:.1f}",
        f"{row['p99']:.1f}",
        *speeds,
        f"{row['peak'] / 2**20:.0f} MiB",
        f"{row['difference']:.0e}",
    ]


def remarks(result: Mapping) -> list[str]:
    """Everything beside the table."""
    lines, others = [*result["missing"]], result["machine"]["others"] or 0.0
    if others > 0.02 * result["machine"]["cores"]:
        lines.append(f"Other processes kept {others:.1f} cores busy meanwhile: repeat on a quiet machine.")
    if not result["agree"]:
        lines.append(f"DISAGREE: a row differs by more than {LIMIT:.0e} of the training network's largest output.")
    return [*lines, *verdict(result)]


def text(result: Mapping) -> str:
    """A table for each number of threads."""
    lines = [title(result)]
    for count, rows in result["threads"].items():
        lines.append(f"{count + ' thread(s), images/s (to PyTorch)':38s}" + "".join(f"{name:>15s}" for name in _HEAD))
        lines += [f"{row['label']:38s}" + "".join(f"{cell:>15s}" for cell in cells(row)) for row in rows.values()]
    return "\n".join([*lines, *remarks(result)])


def markdown(result: Mapping) -> str:
    """The same in Markdown."""
    lines = [f"**{title(result)}**"]
    for count, rows in result["threads"].items():
        head = f"| {count} thread(s), images/s (to PyTorch) | " + " | ".join(_HEAD) + " |"
        lines += ["", head, "|---|" + "---|" * len(_HEAD)]
        lines += [f"| {row['label']} | " + " | ".join(cells(row)) + " |" for row in rows.values()]
    return "\n".join([*lines, "", *remarks(result)]).replace("x)", "×)")


def main() -> int:
    """Print the tables; status 1 when a row does not give the training network's answers."""
    return run_command(__doc__, add_flags, lambda args: compare(settings_of(args)), text)


if __name__ == "__main__":
    sys.exit(main())
