"""Numbers that a finished command left, for ``results.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ppcls.utils.errors import UserError
from ppcls.utils.files import read_json_lines

#: ``name(unit): number`` of an inference benchmark's report.
_TIMED = re.compile(r"\b(\w+)\((ms|MB|s)\): (\d+(?:\.\d+)?)")


def figures_of(places: Mapping[str, Path]) -> dict[str, Any]:
    """What is there of ``{"train": metrics.jsonl, "eval": eval.json, "benchmark": log}``; absent files give nothing.

    Raises:
        UserError: a file is there and cannot be read.
    """
    readers = {"train": _train, "eval": evaluation, "benchmark": _benchmark}
    found: dict[str, Any] = {}
    for kind, path in places.items():
        if path.is_file():
            found.update(readers[kind](path))
    return found


def evaluation(path: Path) -> dict[str, dict[str, float]]:
    """``{"market": {"mAP": 0.8, "R1": 0.9}, …}`` of an ``eval.json`` with one checkpoint."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        (entry,) = entries.values()
        return {line["dataset"]: {"mAP": line["mAP"], "R1": line["cmc"]["1"]} for line in entry["results"]}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not the record of one evaluation ({type(error).__name__}: {error})") from error


def _train(path: Path) -> dict[str, float]:
    """Losses of the last iteration, and images per second over all of them."""
    lines = [line for line in read_json_lines(path) if line.get("kind") == "train"]
    if not lines:
        return {}
    last = {name: value for name, value in lines[-1].items() if name.endswith("loss")}
    seconds = [1 / line["ips"] for line in lines if line.get("ips")]
    return {**last, **({"ips": len(seconds) / sum(seconds)} if seconds else {})}


def _benchmark(path: Path) -> dict[str, float]:
    text = path.read_text(encoding="utf-8", errors="replace")
    return {f"{name}_{unit}": float(value) for name, unit, value in _TIMED.findall(text)}
