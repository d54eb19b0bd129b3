"""The triplet pair of AlignedReID++: global features mine, global and local distances are trained.

Luo et al., "AlignedReID++", Pattern Recognition 2019, section 3.3: the hardest images are found by the global
distance, because it is cheaper and more reliable than the local one.
"""

from __future__ import annotations

from typing import NamedTuple

import paddle

from ppcls.loss.dmli import dmli
from ppcls.loss.labels import Labels
from ppcls.loss.pairwise import l2_normalize
from ppcls.loss.precision import full_precision
from ppcls.loss.triplet import margin_loss, mine


class AlignedTriplet(NamedTuple):
    """The two losses, scalars; the published total adds them with weight 1."""

    global_loss: paddle.Tensor
    local_loss: paddle.Tensor


@full_precision
def aligned_triplet(
    features: paddle.Tensor,
    local_features: paddle.Tensor,
    pids: Labels,
    margin: float | None = 0.3,
    *,
    aligned: bool = True,
    normalize: bool = False,
) -> AlignedTriplet:
    """Batch-hard triplet losses on global features and, for the same pairs, on stripe features.

    Args:
        features: [B, D] float.
        local_features: [B, d, H] float, unit length per stripe.
        pids: [B] integers, any number of images per id.
        margin: of both; ``None`` for the soft margin.
        aligned: match stripes dynamically (DMLI); False compares equal heights.
        normalize: divide the global features by their lengths first.

    Raises:
        UserError: the batch holds one id only.
    """
    mined = mine(l2_normalize(features) if normalize else features, pids)
    positive = dmli(local_features, paddle.gather(local_features, mined.farthest), aligned=aligned)
    negative = dmli(local_features, paddle.gather(local_features, mined.nearest), aligned=aligned)
    return AlignedTriplet(
        margin_loss(mined.positive - mined.negative, margin), margin_loss(positive - negative, margin)
    )
