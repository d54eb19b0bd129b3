"""Checkpoint → inference model: a folder that predictors and services run without the training code.

``export_model(ExportOptions(...))`` does the whole job. It is imported at its first use, because it needs paddle and
readers of this package's other parts may not.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppcls.export.job import export_model, export_network
    from ppcls.export.parity import ParityError

__all__ = ["ParityError", "export_model", "export_network"]

_HOMES = {
    "export_model": "ppcls.export.job",
    "export_network": "ppcls.export.job",
    "ParityError": "ppcls.export.parity",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'ppcls.export' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
