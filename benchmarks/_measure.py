"""Runs the sides of a speed comparison in turn, each in a process of its own, and sums up what they report."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks import _table
from benchmarks._workload import Job, step_flops
from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_write_json
from ppcls.utils.tuning import OPT_OUT, usable_cores

HERE = Path(__file__).resolve().parent
#: Relative difference of losses above which two sides have not done the same work.
TOLERANCE = 1e-3
PROCESSES = 2  # of the data-parallel row
#: glibc's allocator as ``ppcls.utils.tuning`` sets it, for a process that does not set it itself.
KEEP_FREED_MEMORY = (("MALLOC_MMAP_MAX_", "0"), ("MALLOC_TRIM_THRESHOLD_", str(2**31 - 1)))
_SETTINGS = ("MKL_", "OMP_", "KMP_", "MALLOC_", "GLIBC_TUNABLES", "PADDLE_", "PPCLS_", "TORCH_")


@dataclass(frozen=True)
class Row:
    """One way of doing a job: ``python`` runs ``script`` in ``processes`` processes that share the threads.

    ``extra`` are environment variables, ``arguments`` the script's further arguments, of this row alone.
    """

    key: str
    label: str
    python: str
    script: str = "_ours.py"
    processes: int = 1
    extra: tuple[tuple[str, str], ...] = ()
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True)
class Settings:
    """Flags that all comparisons share; ``torch_python`` is None where there is no peer, for the reason given."""

    threads: int
    batch: int
    repeat: int
    steps: int
    small: bool
    torch_python: str | None
    no_peer: str = ""

    def job(self, task: str, threads: int | None = None) -> Job:
        """The task at its real size, or at one that takes a second; ``threads``: other than the flag's."""
        job = Job(task, threads or self.threads, self.batch, self.steps)
        return replace(job, depth=18, height=64, width=32, steps=1, gemm=256) if self.small else job

    def rows(self, task: str) -> list[Row]:
        """What is compared, the one row first that all ratios are about."""
        rows = [Row("ours", "ours", sys.executable)]
        if self.torch_python:
            rows.append(Row("peer", "PyTorch", self.torch_python, "_torch_peer.py"))
            label = "PyTorch, freed memory kept"
            rows.append(Row("peer_tuned", label, self.torch_python, "_torch_peer.py", extra=KEEP_FREED_MEMORY))
        if task != "gemm" and self.threads >= PROCESSES:
            label = f"ours, {PROCESSES} processes x {self.threads // PROCESSES} thread(s)"
            rows.append(Row("parallel", label, sys.executable, processes=PROCESSES))
        return [*rows, Row("untuned", f"ours, {OPT_OUT}=0", sys.executable, extra=((OPT_OUT, "0"),))]


def command(description: str, titles: Mapping[str, str]) -> None:
    """Compare on each task, print a table under its title, write ``--json``.

    Leaves with status 1 if two sides did different work, with 2 for a user's mistake.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser)
    parser.add_argument("--json", metavar="PATH", help="also write the figures there")
    args = parser.parse_args()
    results = {}
    try:
        settings = settings_of(args)
        for task, title in titles.items():
            results[task] = compare(settings, task) | {"title": title}
            print(_table.text(results[task]), end="\n\n", flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    if args.json:
        atomic_write_json(args.json, results)
    sys.exit(0 if all(result["agree"] for result in results.values()) else 1)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags of :class:`Settings`."""
    parser.add_argument("--threads", type=int, default=usable_cores(), help="of each side (default: all cores)")
    parser.add_argument("--batch", type=int, default=16, help="images in one pass, a multiple of 16 (default: 16)")
    parser.add_argument("--repeat", type=int, default=3, help="rounds over all rows (default: 3)")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of a row in one round (default: 3)")
    parser.add_argument("--small", action="store_true", help="a toy size: checks that all runs, figures mean nothing")
    parser.add_argument(
        "--torch-python",
        metavar="PATH",
        help="interpreter that can import torch (default: this one if it can); none: leave PyTorch out",
    )


def settings_of(args: argparse.Namespace) -> Settings:
    """Checked flags."""
    for name in ("threads", "repeat", "steps"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} {getattr(args, name)}: must be at least 1")
    if args.batch < 16 or args.batch % 16:
        raise UserError(f"--batch {args.batch}: must be a multiple of 16, so that every process gets whole ids")
    repeat = 1 if args.small else args.repeat
    return Settings(args.threads, args.batch, repeat, args.steps, args.small, *find_torch(args.torch_python))


def find_torch(wanted: str | None) -> tuple[str | None, str]:
    """(interpreter with torch, "") or (None, why there is no peer).

    Raises:
        UserError: the interpreter asked for does not run or has no torch.
    """
    if wanted == "none":
        return None, "left out by --torch-python none"
    python = wanted or sys.executable
    try:
        done = subprocess.run([python, "-c", "import torch"], capture_output=True, text=True, check=False)
        reason = done.stderr.strip().rpartition("\n")[2] if done.returncode else ""
    except OSError as error:
        reason = str(error)
    if not reason:
        return python, ""
    if wanted:
        raise UserError(f"--torch-python {wanted}: {reason}; install requirements-bench.txt there")
    return None, f"no PyTorch in this environment ({reason}); install requirements-bench.txt or give --torch-python"


def compare(settings: Settings, task: str) -> dict:
    """All rows of a task, ``repeat`` rounds in turn, summed up; plain values for JSON."""
    job, rows = settings.job(task), settings.rows(task)
    others = Others()
    reports: dict[str, list[dict]] = {row.key: [] for row in rows}
    for _ in range(settings.repeat):
        for row in rows:
            reports[row.key].append(run_once(row, job))
    result = summed_up(job, rows, reports)
    result["machine"]["others"] = others.cores()
    return result | {"repeat": settings.repeat, "no_peer": settings.no_peer}


def summed_up(job: Job, rows: Iterable[Row], reports: Mapping[str, Sequence[Mapping]]) -> dict:
    """Figures of each row from its ``reports``, one per round."""
    found = {row.key: summary(row, job, reports[row.key]) for row in rows}
    gemm = max(row["gemm"] for row in found.values())
    for row in found.values():
        row["fraction"] = row["gflops"] / gemm if row["gflops"] else None
        row |= ratios(row, found.get("peer"))
    compared = losses(reports)
    return {
        "task": job.task,
        "job": job.as_dict(),
        "machine": {"processor": processor(), "cores": usable_cores(), "gemm": gemm, "others": None},
        "rows": found,
        "losses": compared,
        "agree": compared is None or compared["difference"] <= TOLERANCE,
    }


def run_once(row: Row, job: Job) -> dict:
    """The report of one process (or one group of them).

    Raises:
        UserError: it failed; the message ends with its last line.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, report, logs = (Path(folder) / name for name in ("job.json", "report.json", "logs"))
        alone = row.processes == 1
        share = replace(job, threads=job.threads // row.processes, gemm=job.gemm if alone else 0)
        asked.write_text(json.dumps(share.as_dict()))
        launch = ["-m", "paddle.distributed.launch", "--nproc_per_node", str(row.processes), "--log_dir", str(logs)]
        script = [str(HERE / row.script), str(asked), str(report), *row.arguments]
        argv = [row.python, *([] if alone else launch), *script]
        env = environment(share.threads) | dict(row.extra)
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        if done.returncode or not report.exists():
            said = done.stderr + "".join(path.read_text() for path in sorted(logs.glob("workerlog.*")))
            lines = said.strip().splitlines() or [f"exit status {done.returncode}"]
            raise UserError(f"benchmark process '{row.label}' failed: {lines[-1]}")
        return json.loads(report.read_text())


def environment(threads: int) -> dict[str, str]:
    """The caller's variables but for what sets threads, maths libraries and the allocator."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)}
    return kept | {"OMP_NUM_THREADS": str(threads), "GLOG_minloglevel": "2"}


def summary(row: Row, job: Job, reports: Sequence[Mapping]) -> dict:
    """Best and median speed over all timed steps of all rounds."""
    seconds = [value for report in reports for value in report["seconds"][job.warmup :]]
    # training shares one batch between the processes; dreaming gives each process a batch of its own
    batches = row.processes if job.task == "inversion" else 1
    result = {
        "label": row.label,
        "about": reports[0]["about"],
        "seconds": seconds,
        "gemm": max(report["gemm"] for report in reports),
        "peak": max(report["peak"] for report in reports) * row.processes,
        "gflops": None,
    }
    if seconds:
        result["best"] = batches * job.images / min(seconds)
        result["median"] = batches * job.images / statistics.median(seconds)
        result["gflops"] = batches * step_flops(job) / min(seconds) / 1e9
    return result


def ratios(row: Mapping, peer: Mapping | None) -> dict[str, float | None]:
    """Speed in units of the peer's: best by best, median by median; of the matrix product where nothing else ran."""
    if peer is None or (row["gflops"] is None and not peer["gemm"]):
        return {"ratio_best": None, "ratio_median": None}
    if row["gflops"] is None:
        return {"ratio_best": row["gemm"] / peer["gemm"], "ratio_median": None}
    return {"ratio_best": row["best"] / peer["best"], "ratio_median": row["median"] / peer["median"]}


def losses(reports: Mapping[str, Sequence[Mapping]]) -> dict | None:
    """First round's losses of both sides and their largest relative difference; None without a peer."""
    if "peer" not in reports or not reports["peer"][0]["losses"]:
        return None
    ours, peer = reports["ours"][0]["losses"], reports["peer"][0]["losses"]
    difference = float(np.max(np.abs(np.subtract(ours, peer)) / np.abs(peer)))  # NaN if any loss is
    return {"ours": ours, "peer": peer, "difference": difference}


class Others:
    """Cores that processes beside this one and its children have kept busy since it was made."""

    def __init__(self) -> None:
        self._wall, self._spent = time.monotonic(), self._foreign()

    def cores(self) -> float | None:
        """Their mean number; None where /proc/stat does not tell."""
        if self._spent is None:
            return None
        return max(0.0, (self._foreign() - self._spent) / (time.monotonic() - self._wall))

    def _foreign(self) -> float | None:
        stat = Path("/proc/stat")
        if not stat.exists():
            return None
        user, nice, system, _, _, irq, softirq, steal = map(int, stat.read_text().split()[1:9])
        busy = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
        return busy - sum(os.times()[:4])


def processor() -> str:
    """The processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def run_command(
    about: str,
    add_flags: Callable[[argparse.ArgumentParser], None],
    measure: Callable[[argparse.Namespace], Mapping],
    text: Callable[[Mapping], str],
) -> int:
    """The command of a comparison: flags, tables, figures as JSON; exit status 0, 1 (disagreement) or 2 (usage)."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_flags(parser)
    parser.add_argument("--json", metavar="PATH", help="also write the figures there")
    args = parser.parse_args()
    try:
        result = measure(args)
        print(text(result))
        if args.json:
            atomic_write_json(args.json, result)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0 if result["agree"] else 1
