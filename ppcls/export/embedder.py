"""What is left of a network for deployment: pictures in, one feature per picture out."""

from __future__ import annotations

import paddle
from paddle import nn

from ppcls.arch.reid_net import Backbone, ReIDNet
from ppcls.export.resize import Preprocess

#: Smallest norm that normalisation divides by; a feature of zeros stays zero.
EPSILON = 1e-12


class Embedder(nn.Layer):
    """Backbone, pooling and neck, without the classifier: float32 [N, 3, H, W] → float32 [N, D].

    Args:
        backbone: it is shared, not copied.
        feature: "embedding" (after the neck) or "global" (before it).
        normalise: divide each row by its L2 norm.
        domain: whose statistics a network with several domains uses; None for any other network.
        size: (height, width) to resize to in the graph; the input is then uint8 RGB [N, h, w, 3] of any size. None:
            the input is resized and normalised already.
    """

    def __init__(
        self,
        backbone: Backbone,
        feature: str = "embedding",
        normalise: bool = False,
        domain: int | None = None,
        size: tuple[int, int] | None = None,
    ):
        super().__init__()
        self.backbone = backbone
        self.feature, self.normalise, self.domain = feature, normalise, domain
        self.preprocess = Preprocess(*size) if size else None

    def forward(self, x):
        return self._answer(x)

    @paddle.jit.not_to_static
    def _answer(self, x):
        """Traced as it runs: the network's loops and conditions are settled before, and paddle's rewriting of Python
        code into graph control flow must not touch them."""
        if self.preprocess is not None:
            x = self.preprocess(x)
        _, global_feat, embedding = self.backbone(x, self.domain)
        feature = embedding if self.feature == "embedding" else global_feat
        return _unit_rows(feature) if self.normalise else feature


def _unit_rows(rows):
    """Rows of L2 norm 1; F.normalize cannot be traced into Paddle's older format."""
    norms = paddle.norm(rows, p=2, axis=1, keepdim=True)
    return rows / paddle.maximum(norms, paddle.full([1], EPSILON, "float32"))


def build_embedder(
    net: ReIDNet, height: int, width: int, feature: str, normalise: bool, domain: int | None, preprocess: bool
) -> tuple[Embedder, paddle.static.InputSpec]:
    """The part of ``net`` that is exported, in evaluation mode, and what it takes; the batch size stays free."""
    embedder = Embedder(net.backbone, feature, normalise, domain, (height, width) if preprocess else None)
    embedder.eval()
    if preprocess:
        return embedder, paddle.static.InputSpec([None, None, None, 3], "uint8", name="x")
    return embedder, paddle.static.InputSpec([None, 3, height, width], "float32", name="x")
