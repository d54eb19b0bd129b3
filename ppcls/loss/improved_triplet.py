"""Triplet losses that also pull positives together.

After Cheng et al., "Person Re-Identification by Multi-Channel Parts-Based CNN with Improved Triplet Loss Function",
CVPR 2016, whose own version has thresholds on both terms; the two forms here are those of the re-ID baselines.
"""

from __future__ import annotations

from typing import Literal

import paddle
import paddle.nn.functional as F

from ppcls.loss.labels import Labels
from ppcls.loss.pairwise import l2_normalize
from ppcls.loss.precision import full_precision
from ppcls.loss.triplet import mine


@full_precision
def improved_triplet(
    features: paddle.Tensor,
    pids: Labels,
    margin: float = 0.3,
    *,
    form: Literal["outside", "inside"] = "outside",
    normalize: bool = True,
) -> paddle.Tensor:
    """Batch-hard triplet with the positive distance d+ as a second term.

    ``"outside"``: mean(d+ + max(d+ - d- + m, 0)), which pulls positives of satisfied triplets too. ``"inside"``:
    mean(max(2·d+ - d- + m, 0)), which stops once the negative is twice as far.

    Args:
        features: [B, D] float.
        pids: [B] integers, any number of images per id.
        margin: m.
        normalize: divide every feature by its length first (both baselines do).

    Raises:
        UserError: the batch holds one id only.
    """
    mined = mine(l2_normalize(features) if normalize else features, pids)
    if form == "outside":
        return (mined.positive + F.relu(mined.positive - mined.negative + margin)).mean()
    if form == "inside":
        return F.relu(2.0 * mined.positive - mined.negative + margin).mean()
    raise ValueError(f"unknown form {form!r}; choose outside or inside")
