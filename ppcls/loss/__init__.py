"""Losses as pure functions of tensors: no configuration files, no printing, one paper per module."""

from ppcls.loss.aligned_triplet import aligned_triplet
from ppcls.loss.center import center_loss
from ppcls.loss.centroid_triplet import centroid_triplet
from ppcls.loss.circle import circle_pairs
from ppcls.loss.classification import (
    adaptive_label_smoothing_cross_entropy,
    cross_entropy,
    label_smoothing_cross_entropy,
)
from ppcls.loss.improved_triplet import improved_triplet
from ppcls.loss.learned_weights import LearnedLossWeights
from ppcls.loss.mmd import mmd
from ppcls.loss.pairwise import cosine_matrix, euclidean_dist
from ppcls.loss.self_distillation import SelfDistillation
from ppcls.loss.triplet import batch_hard_triplet, soft_weighted_triplet

__all__ = [
    "LearnedLossWeights",
    "SelfDistillation",
    "adaptive_label_smoothing_cross_entropy",
    "aligned_triplet",
    "batch_hard_triplet",
    "center_loss",
    "centroid_triplet",
    "circle_pairs",
    "cosine_matrix",
    "cross_entropy",
    "euclidean_dist",
    "improved_triplet",
    "label_smoothing_cross_entropy",
    "mmd",
    "soft_weighted_triplet",
]
