"""Images → embeddings → nearest gallery images."""

from ppcls.retrieval.extractor import FeatureExtractor

__all__ = ["FeatureExtractor"]
