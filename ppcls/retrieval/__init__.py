"""Images → embeddings → nearest gallery images.

``FeatureExtractor`` needs paddle and is imported at its first use: exported models and galleries do without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ppcls.retrieval.search import Matches, find_images, save_embeddings, search

if TYPE_CHECKING:
    from ppcls.retrieval.extractor import FeatureExtractor

__all__ = ["FeatureExtractor", "Matches", "find_images", "save_embeddings", "search"]


def __getattr__(name: str) -> Any:
    """``FeatureExtractor``, imported at its first use (PEP 562)."""
    if name != "FeatureExtractor":
        raise AttributeError(f"module 'ppcls.retrieval' has no attribute '{name}'")
    from ppcls.retrieval.extractor import FeatureExtractor

    return FeatureExtractor
