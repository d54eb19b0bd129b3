"""Images → embeddings → nearest gallery images."""

from ppcls.retrieval.extractor import FeatureExtractor
from ppcls.retrieval.search import Matches, find_images, save_embeddings, search

__all__ = ["FeatureExtractor", "Matches", "find_images", "save_embeddings", "search"]
