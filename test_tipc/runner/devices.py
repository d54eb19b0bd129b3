"""An entry of gpu_list: which processors a command may use, and how many processes it starts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ppcls.utils.errors import UserError


@dataclass(frozen=True)
class Devices:
    """``-1``: the CPU; ``0``: that GPU; ``0,1``: one process on each; ``-1,-1``: two processes on the CPU."""

    text: str
    numbers: tuple[int, ...]

    @property
    def on_cpu(self) -> bool:
        """Whether no GPU is used."""
        return self.numbers[0] < 0

    @property
    def env(self) -> Mapping[str, str]:
        """Shows a command the one GPU it may use, or none.

        Nothing for several processes: Paddle's launcher shows each its own, and fails where no device may be seen.
        """
        if len(self.numbers) > 1:
            return {}
        return {"CUDA_VISIBLE_DEVICES": "" if self.on_cpu else self.text}

    def launcher(self, logs: Path) -> list[str]:
        """Words between ``python`` and the program that start several processes; none for one process."""
        count = len(self.numbers)
        if count == 1:
            return []
        where = ["--nproc_per_node", str(count)] if self.on_cpu else [f"--devices={','.join(map(str, self.numbers))}"]
        return ["-m", "paddle.distributed.launch", *where, "--log_dir", str(logs)]


def parse_devices(entry: str | None, where: str) -> Devices:
    """Read one entry; nothing and ``null`` stand for the CPU.

    Raises:
        UserError: not numbers, CPU and GPU mixed, a GPU twice, or several machines.
    """
    text = "".join((entry or "-1").split())
    if ";" in text:
        raise UserError(f"{where}: {text}: several machines are not supported; give numbers of GPUs, or -1")
    if not re.fullmatch(r"-1(,-1)*|\d+(,\d+)*", text):
        raise UserError(f"{where}: {text}: expected -1 (the CPU), GPU numbers such as 0 or 0,1, or -1,-1")
    numbers = tuple(int(number) for number in text.split(","))
    if numbers[0] >= 0 and len(set(numbers)) < len(numbers):
        raise UserError(f"{where}: {text}: a GPU stands there twice")
    return Devices(text, numbers)
