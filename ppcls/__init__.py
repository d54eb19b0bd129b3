"""Person re-identification that learns on without its old data, on PaddlePaddle.

``import ppcls`` is light. The first name that needs paddle tunes the processor (:mod:`ppcls.utils.tuning`) and then
imports it; ``PPCLS_CPU_TUNING=0`` in the environment leaves the processor alone. Examples: ``docs/api.md``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ppcls.configs.exported import ExportedModel
    from ppcls.data.dataset import ReIDData, open_dataset
    from ppcls.data.lite import make_lite_data
    from ppcls.engine.api import Model, dream, embed, load_model, run_stream, train
    from ppcls.engine.feature_ranking import evaluate_features
    from ppcls.engine.stream.report import StreamReport
    from ppcls.export.api import export_model
    from ppcls.inversion import DreamReport
    from ppcls.metric.ranking import RankingResult
    from ppcls.retrieval import find_images
    from ppcls.retrieval.gallery import Gallery
    from ppcls.retrieval.predictor import Predictor, embed_images, open_predictor
    from ppcls.utils.errors import UserError

__version__ = "0.1.0"

__all__ = [
    "DreamReport",
    "ExportedModel",
    "Gallery",
    "Model",
    "Predictor",
    "RankingResult",
    "ReIDData",
    "StreamReport",
    "UserError",
    "__version__",
    "dream",
    "embed",
    "embed_images",
    "evaluate_features",
    "export_model",
    "find_images",
    "load_model",
    "make_lite_data",
    "open_dataset",
    "open_predictor",
    "run_stream",
    "train",
]

_WITH_PADDLE = {
    **dict.fromkeys(("Model", "dream", "embed", "load_model", "run_stream", "train"), "ppcls.engine.api"),
    "DreamReport": "ppcls.inversion",
    "StreamReport": "ppcls.engine.stream.report",
    "export_model": "ppcls.export.api",
}
_WITHOUT_PADDLE = {
    "ExportedModel": "ppcls.configs.exported",
    "Gallery": "ppcls.retrieval.gallery",
    "Predictor": "ppcls.retrieval.predictor",
    "RankingResult": "ppcls.metric.ranking",
    "ReIDData": "ppcls.data.dataset",
    "UserError": "ppcls.utils.errors",
    "embed_images": "ppcls.retrieval.predictor",
    "evaluate_features": "ppcls.engine.feature_ranking",
    "find_images": "ppcls.retrieval",
    "make_lite_data": "ppcls.data.lite",
    "open_dataset": "ppcls.data.dataset",
    "open_predictor": "ppcls.retrieval.predictor",
}


def __getattr__(name: str) -> Any:
    """The public name, imported at its first use (PEP 562)."""
    module = {**_WITHOUT_PADDLE, **_WITH_PADDLE}.get(name)
    if module is None:
        raise AttributeError(f"module 'ppcls' has no attribute '{name}'")
    if name in _WITH_PADDLE:
        from ppcls.utils.tuning import apply_cpu_tuning, import_paddle_quietly

        apply_cpu_tuning()
        import_paddle_quietly()
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
