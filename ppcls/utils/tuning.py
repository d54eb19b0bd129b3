"""Processor settings that must be in place before paddle is imported.

On AMD EPYC, 2 cores, paddle 3.3.1: the bundled MKL takes a slow path on processors that are not Intel's, and the C
allocator gives large blocks back to the system after every step. Correcting both makes a ResNet-50 training step more
than twice as fast (``benchmarks/``). ``PPCLS_CPU_TUNING=0`` leaves everything as it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import os
import sys
import warnings
from pathlib import Path

OPT_OUT = "PPCLS_CPU_TUNING"
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def usable_cores() -> int:
    """Cores this process may really use: its affinity mask, lowered by a cgroup CPU quota; at least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(cores, _cgroup_cores() or cores))


def _cgroup_cores() -> int | None:
    limit = Path("/sys/fs/cgroup/cpu.max")
    if not limit.exists():
        return None
    quota, _, period = limit.read_text().strip().partition(" ")
    return None if quota == "max" else max(1, int(quota) // int(period or 100000))


def processor_vendor() -> str:
    """``vendor_id`` of /proc/cpuinfo ("AuthenticAMD", "GenuineIntel", …), "" where there is no such file."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return ""
    lines = (line for line in info.read_text(errors="replace").splitlines() if line.startswith("vendor_id"))
    return next(lines, "").partition(":")[2].strip()


@functools.cache
def apply_cpu_tuning() -> str:
    """Set threads, MKL's code path and the allocator; return one line that says what was done.

    Only the first call acts. It must come before the first ``import paddle`` of the process; later it says so and
    changes nothing. Variables that the user has set are left alone.
    """
    if os.environ.get(OPT_OUT, "1") == "0":
        return f"CPU tuning: off ({OPT_OUT}=0)"
    if "paddle" in sys.modules:
        return "CPU tuning: not applied, paddle was imported before ppcls"
    os.environ.setdefault("GLOG_minloglevel", "2")
    warnings.filterwarnings("ignore", message="No ccache found")
    together = int(os.environ.get("PADDLE_LOCAL_SIZE", "1"))  # set by paddle.distributed.launch
    threads = os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // together)))
    done = [f"{threads} threads"]
    if processor_vendor() == "AuthenticAMD":
        done.append(f"MKL code path {os.environ.setdefault('MKL_DEBUG_CPU_TYPE', '5')}")
    if _keep_freed_memory():
        done.append("freed memory kept")
    return f"CPU tuning: {', '.join(done)} (opt out with {OPT_OUT}=0)"


def _keep_freed_memory() -> bool:
    """glibc: serve large blocks from the heap and never trim it, so that pages are faulted in once."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt"):
        return False
    return bool(libc.mallopt(_M_MMAP_MAX, 0)) and bool(libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def import_paddle_quietly() -> None:
    """Import paddle without its advice against more than one thread, which the measurements contradict."""
    with contextlib.redirect_stderr(io.StringIO()) as said:
        import paddle  # noqa: F401
    rest = [line for line in said.getvalue().splitlines() if "OMP_NUM_THREADS" not in line]
    if rest:
        print("\n".join(rest), file=sys.stderr)
