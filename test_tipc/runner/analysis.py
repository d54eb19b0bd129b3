"""Speed and convergence from a training log, in the JSON that PaddlePaddle's benchmarks exchange."""

from __future__ import annotations

import importlib.metadata
import math
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ppcls.utils.errors import UserError

_NUMBER = r"\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|inf)"


@dataclass(frozen=True)
class Item:
    """What was run: the fields that name a benchmark."""

    model_name: str
    batch_size: int
    fp_item: str
    run_process_type: str
    run_mode: str
    device_num: str

    @property
    def name(self) -> str:
        """As in file names: ``AGD_bs8_fp32_DP_N1C1``."""
        return f"{self.model_name}_bs{self.batch_size}_{self.fp_item}_{self.run_mode}_{self.device_num}"


def numbers_after(text: str, keyword: str) -> list[float]:
    """The number right behind each ``keyword``; of ``average/value`` pairs the average."""
    return [float(number) for number in re.findall(re.escape(keyword) + _NUMBER, text)]


def speed(records: Sequence[float], skip_steps: int) -> float:
    """Samples per second over all steps but the first ``skip_steps``: all samples by all the time they took.

    Steps have equal numbers of samples, so this is the harmonic mean of the records; their arithmetic mean would say
    more than was done.

    Raises:
        UserError: no step is left, or a record is no positive number.
    """
    used = list(records[skip_steps:])
    if not used:
        raise UserError(f"the log has {len(records)} steps and {skip_steps} are skipped: train longer, or skip fewer")
    if not all(math.isfinite(record) and record > 0 for record in used):
        raise UserError("the log has speeds that are no positive numbers")
    return len(used) / sum(1 / record for record in used)


def analyse(
    log: Path,
    item: Item,
    *,
    keyword: str = "ips:",
    skip_steps: int = 5,
    speed_unit: str = "samples/s",
    convergence_key: str = "loss:",
    seconds: float = 0.0,
) -> dict[str, Any]:
    """The figures of one training log.

    Raises:
        UserError: no such log, no speed in it, or not enough steps.
    """
    if not log.is_file():
        raise UserError(f"no log {log}")
    text = log.read_text(encoding="utf-8", errors="replace")
    records = numbers_after(text, keyword)
    if not records:
        raise UserError(f"{log} holds no '{keyword}' with a number behind it")
    convergence = numbers_after(text, convergence_key)
    return {
        "model_branch": _git("rev-parse", "--abbrev-ref", "HEAD"),
        "model_commit": _git("rev-parse", "HEAD"),
        "model_name": item.name,
        "batch_size": item.batch_size,
        "fp_item": item.fp_item,
        "run_process_type": item.run_process_type,
        "run_mode": item.run_mode,
        "convergence_value": convergence[-1] if convergence else None,
        "convergence_key": convergence_key,
        "ips": round(speed(records, skip_steps), 3),
        "speed_unit": speed_unit,
        "device_num": item.device_num,
        "model_run_time": round(seconds, 1),
        "frame_commit": _paddle_commit(),
        "frame_version": importlib.metadata.version("paddlepaddle"),
        "steps": len(records),
        "skip_steps": skip_steps,
    }


def _git(*arguments: str) -> str:
    """What git says of the project; "" outside a clone or without git."""
    try:
        answer = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return answer.stdout.strip()


def _paddle_commit() -> str:
    """The commit that the installed paddle was built from, without importing it; "" if its files do not say."""
    source = importlib.metadata.distribution("paddlepaddle").locate_file("paddle/version/__init__.py")
    path = Path(str(source))
    match = (
        re.search(r"^commit\s*=\s*'(\w+)'", path.read_text(encoding="utf-8"), re.MULTILINE) if path.is_file() else None
    )
    return match[1] if match else ""
