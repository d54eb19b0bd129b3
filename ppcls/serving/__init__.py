"""One exported model as an HTTP service: the Paddle Serving pipeline protocol and PaddleX-style routes.

The web framework is imported with the first name that needs it; :mod:`ppcls.serving.protocol` never does.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppcls.serving.app import create_app
    from ppcls.serving.server import run_server

__all__ = ["create_app", "run_server"]

_HOMES = {"create_app": "ppcls.serving.app", "run_server": "ppcls.serving.server"}


def __getattr__(name: str) -> Any:
    """The public name, imported at its first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'ppcls.serving' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)
