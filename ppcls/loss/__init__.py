"""Losses as pure functions of tensors: no configuration files, no printing, one paper per module."""

from ppcls.loss.classification import cross_entropy, label_smoothing_cross_entropy
from ppcls.loss.mmd import mmd
from ppcls.loss.pairwise import cosine_matrix, euclidean_dist
from ppcls.loss.triplet import batch_hard_triplet, soft_weighted_triplet

__all__ = [
    "batch_hard_triplet",
    "cosine_matrix",
    "cross_entropy",
    "euclidean_dist",
    "label_smoothing_cross_entropy",
    "mmd",
    "soft_weighted_triplet",
]
