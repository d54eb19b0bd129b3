"""Results against a ground truth: embeddings of fixed images, metrics with tolerances. It can fail.

A ground truth is text, one ``name<TAB>json`` per line, as inference prints it. The JSON is an object, or a bare list:
lists are vectors (``{"embedding": […]}``), numbers are compared with the common tolerances, and metrics such as
``{"mAP": {"value": 0.3, "atol": 0.1}}`` with their own.
"""

from __future__ import annotations

import glob
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ppcls.utils.errors import UserError
from ppcls.utils.files import atomic_write_text
from test_tipc.runner.figures import evaluation

PRECISIONS = ("fp32", "fp16", "int8")
MIN_COSINE = 0.9999

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Tolerance:
    """``|found − true| ≤ atol + rtol · |true|`` for every number; embeddings also need this cosine."""

    atol: float = 1e-3
    rtol: float = 1e-3
    cosine: float = MIN_COSINE


@dataclass(frozen=True)
class Verdict:
    """One compared file: what differs, nothing if all agrees."""

    log: str
    ground_truth: str
    compared: int
    differences: tuple[str, ...]


def compare_files(gt_pattern: str, log_pattern: str, tolerance: Tolerance, precision: str = "fp32") -> list[Verdict]:
    """Compare every file of ``log_pattern`` with the ground truth of its precision.

    Args:
        gt_pattern, log_pattern: file names, or patterns with ``*`` of them.
        precision: of files whose names hold none of fp32, fp16, int8.

    Raises:
        UserError: no such files, a ground truth that cannot be read or is empty, none for a precision.
    """
    truths: dict[str, tuple[str, Results]] = {}
    for path in _files(gt_pattern, "--gt_file"):
        tag = _precision_of(path, "fp32")
        if tag in truths:
            raise UserError(f"--gt_file {gt_pattern}: {truths[tag][0]} and {path} are both ground truth for {tag}")
        truths[tag] = (path, read_results(Path(path)))
        if not truths[tag][1]:
            raise UserError(f"{path} holds no line of ground truth (name, tab, JSON)")
    verdicts = []
    for path in _files(log_pattern, "--log_file"):
        tag = _precision_of(path, precision)
        if tag not in truths:
            raise UserError(f"{path} is {tag}, and --gt_file {gt_pattern} has no ground truth for {tag}")
        source, truth = truths[tag]
        found = differences(truth, read_results(Path(path)), tolerance)
        verdicts.append(Verdict(path, source, len(truth), tuple(found)))
    return verdicts


def differences(truth: Results, found: Results, tolerance: Tolerance) -> list[str]:
    """What differs, one line each. Every name of ``truth`` must be in ``found``; more names may be."""
    lines = []
    for name, expected in truth.items():
        if name not in found:
            lines.append(f"{name}: no result")
            continue
        expected, result = _object(expected), _object(found[name])
        for key, value in expected.items():
            if key not in result:
                lines.append(f"{name}: no {key}")
            elif isinstance(value, (Sequence, np.ndarray)):
                lines += _vector(name, value, result[key], tolerance)
            else:
                lines += _number(f"{name} {key}", value, result[key], tolerance)
    return lines


def _object(value: Any) -> Results:
    return value if isinstance(value, Mapping) else {"embedding": value}


def _vector(name: str, expected: Any, found: Any, tolerance: Tolerance) -> list[str]:
    true, got = _numbers(expected), _numbers(found)
    if true is None or got is None:
        return [f"{name}: not a list of numbers"]
    if true.shape != got.shape:
        return [f"{name}: {got.size} numbers instead of {true.size}"]
    if not np.isfinite(got).all():
        return [f"{name}: not all numbers are finite"]
    lines = []
    excess = np.abs(got - true) - (tolerance.atol + tolerance.rtol * np.abs(true))
    if (excess > 0).any():
        worst = int(np.argmax(excess))
        lines.append(
            f"{name}: {int((excess > 0).sum())} of {true.size} numbers differ, the most at {worst}: {got[worst]:.6g} "
            f"instead of {true[worst]:.6g}"
        )
    cosine = _cosine(true, got)
    if cosine < tolerance.cosine:
        lines.append(f"{name}: cosine {cosine:.6f} < {tolerance.cosine}")
    return lines


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine of two vectors of any size of numbers; of two zero vectors 1, of one 0."""
    largest = np.abs(a).max(), np.abs(b).max()
    if not all(largest):
        return float(not any(largest))
    a, b = a / largest[0], b / largest[1]
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _number(name: str, expected: Any, found: Any, tolerance: Tolerance) -> list[str]:
    own = expected if isinstance(expected, Mapping) else {"value": expected}
    true = own.get("value")
    if not _is_number(true) or not _is_number(found):
        return [f"{name}: not a number"]
    allowed = own.get("atol", tolerance.atol) + own.get("rtol", tolerance.rtol) * abs(true)
    if abs(found - true) <= allowed:
        return []
    return [f"{name}: {found:.6g} instead of {true:.6g} ± {allowed:.6g}"]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value)


def read_results(path: Path) -> dict[str, Any]:
    """Name → embedding or metrics of a ground truth or of a command's result.

    ``.npz`` (``paths``, ``embeddings``), ``.jsonl`` (``path``, ``embedding`` in each line), ``.json`` (the record of
    an evaluation), any other file: its lines of the form ``name<TAB>json``, other lines are passed over. Names of
    images are those of the files, without folders.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                names = [Path(str(name)).name for name in arrays["paths"]]
                return {n: {"embedding": e} for n, e in zip(names, arrays["embeddings"], strict=True)}
        if path.suffix == ".json":
            return evaluation(path)
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".jsonl":
            records = [json.loads(line) for line in text.splitlines() if line.strip()]
            return {Path(record["path"]).name: {"embedding": record["embedding"]} for record in records}
    except (OSError, EOFError, zipfile.BadZipFile, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} cannot be read as results ({type(error).__name__}: {error})") from error
    found: dict[str, Any] = {}
    for line in text.splitlines():
        found.update(_named(line))
    return found


def write_ground_truth(path: Path, results: Results) -> None:
    """Write ``results`` as ``name<TAB>json`` lines, numbers with seven digits."""
    lines = (f"{name}\t{json.dumps(_rounded(value))}\n" for name, value in sorted(results.items()))
    atomic_write_text(path, "".join(lines))


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, (Sequence, np.ndarray)):
        return [float(f"{item:.7g}") for item in value]
    return float(f"{value:.7g}")


def _named(line: str) -> dict[str, Any]:
    """``{name: value}`` of a line ``name<TAB>json``, nothing for any other line.

    Loggers write date and level before the name, so its last word alone names the value too.
    """
    left, tab, text = line.rpartition("\t")
    if not tab or not left.strip():
        return {}
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return {Path(name).name: value for name in (left.split()[-1], left.strip())}


def _numbers(value: Any) -> np.ndarray | None:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return array if array.ndim == 1 and array.size else None


def _precision_of(path: str, default: str) -> str:
    return next((tag for tag in PRECISIONS if tag in Path(path).name), default)


def _files(pattern: str, flag: str) -> list[str]:
    files = sorted(glob.glob(pattern)) if glob.has_magic(pattern) else [pattern]  # noqa: PTH207  as the user wrote it
    missing = [path for path in files if not Path(path).is_file()]
    if not files or missing:
        raise UserError(f"{flag} {pattern}: no such file")
    return files
