"""Evaluation and re-ranking as the torchreid package does them, timed; runs where torch and torchreid are installed.

Only the modules in question are loaded: the package itself would import torchvision, OpenCV and more, which they do not
need.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from benchmarks._retrieval import LABELS, finish, load, peak, sample


def find(wanted: str | None) -> str | None:
    """The interpreter ``wanted`` (None: this one) if it has torch and torchreid; "none" or nothing found: None.

    Raises:
        LookupError: the interpreter asked for has not.
    """
    if wanted == "none":
        return None
    python = wanted or sys.executable
    probe = "import importlib.util as u; assert u.find_spec('torch') and u.find_spec('torchreid')"
    try:
        found = subprocess.run([python, "-c", probe], capture_output=True, check=False).returncode == 0
    except OSError:
        found = False
    if wanted and not found:
        raise LookupError(f"--torchreid-python {wanted}: no torch or no torchreid there; install both")
    return python if found else None


@functools.cache
def package() -> Path:
    """Where torchreid is installed."""
    return Path(importlib.util.find_spec("torchreid").submodule_search_locations[0])


def module(name: str) -> types.ModuleType:
    """torchreid's module ``torchreid.reid.<name>``, with empty modules in the place of the packages above it."""
    folder = package()
    for part in ("torchreid", "torchreid.reid", f"torchreid.reid.{name.partition('.')[0]}"):
        if part not in sys.modules:
            sys.modules[part] = types.ModuleType(part)
            sys.modules[part].__path__ = [str(folder.joinpath(*part.split(".")[1:]))]
    return importlib.import_module(f"torchreid.reid.{name}")


def ranking(data: dict[str, np.ndarray]) -> dict:
    """Distance matrix and figures of the file's slice of queries."""
    import torch

    distance, rank = module("metrics.distance"), module("metrics.rank")
    chosen, idle = slice(int(data["slice"])), peak()
    begin = time.perf_counter()
    query, gallery = torch.from_numpy(data["qf"][chosen]), torch.from_numpy(data["gf"])
    matrix = distance.compute_distance_matrix(query, gallery, "cosine").numpy()
    middle = time.perf_counter()
    sides = [data[name][chosen] if name.startswith("q") else data[name] for name in LABELS]
    _, value = rank.evaluate_rank(matrix, *sides, max_rank=50)
    end = time.perf_counter()
    return {"total": end - begin, "ranking": end - middle, "mAP": float(value), "idle": idle}


def reranking(data: dict[str, np.ndarray]) -> dict:
    """Three distance matrices, as its evaluation makes them, and the re-ranked one; ranked by ours, not timed."""
    import torch

    distance, rerank = module("metrics.distance"), module("utils.rerank")
    begin = time.perf_counter()
    query, gallery = torch.from_numpy(data["qf"]), torch.from_numpy(data["gf"])
    pairs = ((query, gallery), (query, query), (gallery, gallery))
    # Its "euclidean" is squared already, and re-ranking squares once more.
    matrices = [distance.compute_distance_matrix(*pair).clamp_(min=0).sqrt_().numpy() for pair in pairs]
    middle = time.perf_counter()
    found = rerank.re_ranking(*matrices)
    end = time.perf_counter()
    return {"total": end - begin, "products": middle - begin, "mAP": None, "sample": sample(found)}


def main() -> None:
    """``--worker torchreid-ranking|torchreid-reranking PATH``: figures of the file as JSON."""
    data = load(sys.argv[3])
    finish({"torchreid-ranking": ranking, "torchreid-reranking": reranking}[sys.argv[2]](data), data)


if __name__ == "__main__":
    main()
