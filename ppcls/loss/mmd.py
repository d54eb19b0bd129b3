"""Maximum mean discrepancy between two sets of features, five Gaussian-like kernels.

Gretton et al., "A Kernel Two-Sample Test", JMLR 2012; several bandwidths as in Long et al., ICML 2015.
The kernels take the distance itself, not its square: exp(-D / b).
"""

from __future__ import annotations

import paddle

from ppcls.loss.pairwise import euclidean_dist
from ppcls.loss.precision import full_precision


@full_precision
def mmd(x: paddle.Tensor, y: paddle.Tensor, kernels: int = 5, ratio: float = 2.0) -> paddle.Tensor:
    """Mean k(x, x') + mean k(y, y') - 2 mean k(x, y), k = sum_i exp(-D / (b·ratio^i)), i = 0..kernels-1.

    b = sum(D) / (n^2 - n) / ratio^(kernels // 2) over the n = N + M rows together, held constant in the
    gradient.

    Args:
        x: [N, D] float.
        y: [M, D] float.

    Returns:
        Scalar; 0 for equal sets.
    """
    both = paddle.concat([x, y])
    distance = euclidean_dist(both)
    total = both.shape[0]
    bandwidth = distance.detach().sum() / (total * total - total) / ratio ** (kernels // 2)
    kernel = sum(paddle.exp(-distance / (bandwidth * ratio**i)) for i in range(kernels))
    n = x.shape[0]
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2.0 * kernel[:n, n:].mean()
