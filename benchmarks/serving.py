"""The real HTTP service under load: what it costs beside the predictor alone, whether it stays as it is, and overload.

Throughput of 64 clients that each send one picture after the other, against the predictor fed from memory with the
same threads, at batch 8, 16 and 32. Then a soak (--soak SECONDS) in windows: latency and memory must stay flat. Then
ten times the load that it can take: what is refused, what is answered, whether anything is lost, and whether it is
afterwards what it was before. Clients and service share the processor; what the clients take of it is measured.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks import _serving_table as table
from benchmarks._inference_work import LIMIT
from benchmarks._load import Plan
from benchmarks._measure import HERE, Others, Row, Settings, environment, processor, run_command, run_once
from benchmarks._service import PATH, Service, running
from benchmarks.inference import export_row
from ppcls.serving.protocol import ServingError, parse_response
from ppcls.utils.errors import UserError
from ppcls.utils.tuning import usable_cores

BATCHES = (8, 16, 32)
USUAL = 16  # of soak and overload; the service's own default
PICTURES = 64
_WARM_UP = 0.2  # share of a measurement that is not counted: clients start all at once


@dataclass(frozen=True)
class Options:
    """Checked flags."""

    threads: int
    repeat: int
    seconds: float
    soak: float
    clients: int
    factor: float
    small: bool

    @property
    def window(self) -> float:
        """Seconds of a soak that are summed up together."""
        return min(30.0, self.soak / 5)


def pictures(folder: Path, height: int, width: int) -> list[str]:
    """Image files as a detector's crops are: JPEG, about 10 kB at 256 × 128."""
    rng, paths = np.random.default_rng(0), []
    for number in range(PICTURES):
        coarse = Image.fromarray(rng.integers(0, 256, (16, 8, 3), dtype=np.uint8))
        pixels = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float32)
        grain = pixels + rng.normal(0, 8, (height, width, 3))
        paths.append(str(folder / f"{number:02}.jpg"))
        Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(paths[-1], quality=85)
    return paths


class Bench:
    """One model, its pictures, and the measurements."""

    def __init__(self, options: Options, folder: Path) -> None:
        self.options, self.folder = options, folder
        settings = Settings(options.threads, 16, 1, 1, options.small, None)
        self.job = settings.job("inference")
        run_once(export_row(folder), self.job)
        self.model, self.expected = folder / "model", folder / "expected.npy"
        self.pictures = pictures(folder, self.job.height, self.job.width)

    def service(self, batch: int):
        """A context with the service, running."""
        flags = ["--cpu-threads", str(self.options.threads), "--max-batch", str(batch)]
        return running(self.model, environment(self.options.threads), flags)

    def raw(self, batch: int) -> dict:
        """The predictor alone."""
        arguments = (str(self.model), str(batch), str(self.options.seconds), str(self.expected), *self.pictures)
        return run_once(Row("raw", "predictor alone", sys.executable, "_serving_raw.py", arguments=arguments), self.job)

    def drive(self, service: Service, seconds: float, connections: int, rate: float = 0.0) -> dict:
        """The load generator's report, with the service's memory in time, processor seconds, and checked answers."""
        asked, report = self.folder / "plan.json", self.folder / "load.json"
        asked.write_text(json.dumps(asdict(Plan(service.port, PATH, self.pictures, seconds, connections, rate))))
        before, memory = service.processor_seconds(), []
        argv = [sys.executable, str(HERE / "_load.py"), str(asked), str(report)]
        with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as child:
            while child.poll() is None:
                memory.append((time.monotonic(), service.memory()))
                time.sleep(0.2)
            if child.returncode:
                raise UserError(f"the load generator failed: {child.stderr.read().strip().splitlines()[-1]}")
        found = json.loads(report.read_text()) | {"memory": memory}
        found["processor"] = service.processor_seconds() - before
        found["difference"] = self.difference(found.pop("answers"))
        return found

    def difference(self, answers: Mapping[str, str]) -> float:
        """Of the last answer for each picture from the predictor's own, relative to the largest output."""
        expected = np.load(self.expected)
        try:
            rows = {int(number): parse_response(json.loads(text))[0] for number, text in answers.items()}
        except (ServingError, ValueError) as error:
            raise UserError(f"the service's answers cannot be read: {error}") from error
        off = [np.abs(row - expected[number]).max() for number, row in rows.items()]
        return float(np.max(off) / np.abs(expected).max()) if off else float("nan")


def throughput(bench: Bench) -> dict[str, dict]:
    """``{batch: figures}``: predictor and service in turn, ``repeat`` rounds; medians."""
    batches = BATCHES[:1] if bench.options.small else BATCHES
    rounds: dict[int, list[dict]] = {batch: [] for batch in batches}
    for _ in range(bench.options.repeat):
        for batch, found in rounds.items():
            raw = bench.raw(batch)
            with bench.service(batch) as service:
                http = bench.drive(service, bench.options.seconds, bench.options.clients)
            found.append(one_round(bench.options, raw, http))
    return {str(batch): medians(found) for batch, found in rounds.items()}


def one_round(options: Options, raw: Mapping, http: Mapping) -> dict:
    """Predictor and service set against each other."""
    seen = latencies(http, http["begin"] + _WARM_UP * options.seconds, http["until"])
    return {
        "backend": raw["backend"],
        "raw": raw["rate"],
        **seen,
        "clients": http["cores"],
        "share": seen["rate"] / raw["rate"],
        "share_own": seen["rate"] / (raw["rate"] * (1 - http["cores"] / usable_cores())),
        "raw_ms": raw["cpu"] * 1e3,
        "service_ms": http["processor"] / len(http["requests"]) * 1e3,
        "difference": http["difference"],
        "lost": lost(http),
    }


def latencies(report: Mapping, begin: float, end: float) -> dict[str, float]:
    """Results per second and their times, of those that came between two moments."""
    times = [stop - start for start, stop, code in report["requests"] if begin <= stop < end and code == 200]
    p50, p99 = np.percentile(times, (50, 99)) * 1e3 if times else (float("nan"),) * 2
    return {"rate": len(times) / (end - begin), "p50": float(p50), "p99": float(p99)}


def lost(report: Mapping) -> int:
    """Requests without a whole, right answer: neither a result nor a refusal."""
    odd = sum(code not in (200, 503) for _, _, code in report["requests"])
    return odd + report["broken"] + report["unanswered"]


def medians(rounds: Sequence[Mapping]) -> dict:
    """Median of each figure; the worst difference, all losses."""
    found = {key: statistics.median(one[key] for one in rounds) for key in rounds[0] if key != "backend"}
    found["difference"] = float(np.max([one["difference"] for one in rounds]))
    return found | {"lost": sum(one["lost"] for one in rounds), "backend": rounds[0]["backend"], "rounds": len(rounds)}


def soak(bench: Bench) -> dict:
    """The same load for a long time, in windows; the first one is the warm-up of everything."""
    options = bench.options
    with bench.service(USUAL) as service:
        report = bench.drive(service, options.soak, options.clients)
    windows = []
    for number in range(int(options.soak / options.window + 0.5)):
        begin = report["begin"] + number * options.window
        held = [size for moment, size in report["memory"] if begin <= moment < begin + options.window]
        windows.append(latencies(report, begin, begin + options.window) | {"memory": max(held, default=0)})
    rest = windows[1:]
    return {
        "seconds": options.soak,
        "window": options.window,
        "windows": windows,
        "p99_spread": max(one["p99"] for one in rest) / statistics.median(one["p99"] for one in rest),
        "memory_growth": rest[-1]["memory"] - rest[0]["memory"],
        "difference": report["difference"],
        "lost": lost(report),
    }


def overload(bench: Bench) -> dict:
    """Ten times what it can take, for twice the seconds; one client alone before and afterwards."""
    options = bench.options
    with bench.service(USUAL) as service:
        usual = bench.drive(service, options.seconds, options.clients)
        capacity = latencies(usual, usual["begin"] + _WARM_UP * options.seconds, usual["until"])["rate"]
        alone = bench.drive(service, options.seconds / 2, 1)
        before, embedded = service.memory(), service.counter("reid_images_total")
        report = bench.drive(service, 2 * options.seconds, 480, options.factor * capacity)
        embedded = service.counter("reid_images_total") - embedded
        afterwards = bench.drive(service, options.seconds / 2, 1)
        left, memory = service.counter("reid_queue_images"), service.memory()
    codes = Counter(code for _, _, code in report["requests"])
    accepted = latencies(report, report["begin"], float("inf"))
    refused = [stop - start for start, stop, code in report["requests"] if code == 503]
    return {
        "factor": options.factor,
        "seconds": 2 * options.seconds,
        "capacity": capacity,
        "sent": len(report["requests"]) + report["broken"] + report["unanswered"],
        "unsent": report["unsent"],
        "codes": {str(code): count for code, count in sorted(codes.items())},
        "rate": codes[200] / (max(stop for _, stop, _ in report["requests"]) - report["begin"]),
        "embedded": int(embedded),
        "p50": accepted["p50"],
        "p99": accepted["p99"],
        "refused_p50": float(np.median(refused)) * 1e3 if refused else None,
        "alone_before": latencies(alone, 0, float("inf"))["p50"],
        "alone_after": latencies(afterwards, 0, float("inf"))["p50"],
        "memory_before": before,
        "memory_after": memory,
        "peak": max(size for _, size in report["memory"]),
        "left": int(left),
        "difference": float(np.max([one["difference"] for one in (usual, alone, report, afterwards)])),
        "lost": sum(lost(one) for one in (usual, alone, report, afterwards)) + abs(int(embedded) - codes[200]),
    }


def measure(options: Options) -> dict:
    """Everything; plain values for JSON."""
    with tempfile.TemporaryDirectory() as folder:
        bench, others = Bench(options, Path(folder)), Others()
        result = {
            "options": asdict(options),
            "job": bench.job.as_dict(),
            "picture_bytes": round(statistics.mean(Path(name).stat().st_size for name in bench.pictures)),
            "throughput": throughput(bench),
            "soak": soak(bench) if options.soak else None,
            "overload": overload(bench),
        }
    parts = [*result["throughput"].values(), result["overload"], *filter(None, [result["soak"]])]
    result["machine"] = {"processor": processor(), "cores": usable_cores(), "others": others.cores()}
    result["agree"] = all(part["lost"] == 0 and part["difference"] <= LIMIT for part in parts)
    return result


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of :class:`Options`."""
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of the model (default: all cores)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds of the throughput (default: 3)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of one measurement (default: 10)")
    parser.add_argument("--soak", type=float, default=0.0, metavar="SECONDS", help="how long (default: 0, not at all)")
    parser.add_argument("--clients", type=int, default=64, help="that wait for their answers (default: 64)")
    parser.add_argument("--factor", type=float, default=10.0, help="of the overload (default: 10)")
    parser.add_argument("--small", action="store_true", help="a toy size: checks that all runs, figures mean nothing")


def options_of(args: argparse.Namespace) -> Options:
    """Checked flags."""
    for name, least in (("threads", 1), ("repeat", 1), ("clients", 1), ("seconds", 0.1), ("soak", 0), ("factor", 1)):
        if getattr(args, name) < least:
            raise UserError(f"--{name} {getattr(args, name)}: must be at least {least}")
    given = Options(args.threads, args.repeat, args.seconds, args.soak, args.clients, args.factor, args.small)
    return Options(given.threads, 1, 1.0, 2.0, 16, given.factor, True) if given.small else given


def main() -> int:
    """Print the tables; status 1 when an answer is wrong or missing."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an exception, which ends the service on its way
    return run_command(__doc__, add_flags, lambda args: measure(options_of(args)), table.text)


if __name__ == "__main__":
    sys.exit(main())
