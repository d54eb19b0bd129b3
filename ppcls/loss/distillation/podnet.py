"""Pooled outputs distillation over all stages.

Douillard et al., "PODNet: Pooled Outputs Distillation for Small-Tasks Incremental Learning", ECCV 2020.
Squared activations are summed over some axes, flattened, scaled to unit length and compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import paddle

from ppcls.loss.distillation.base import Context, Distillation, embeddings, factor_pair, require_same_shape
from ppcls.loss.distillation.embedding import l1, l2
from ppcls.loss.distillation.geometric import cosine
from ppcls.loss.pairwise import l2_normalize, row_distance
from ppcls.loss.precision import widen
from ppcls.utils.errors import UserError
from ppcls.utils.registry import nearest

_CHANNEL, _HEIGHT, _WIDTH = 1, 2, 3


def _flat(x: paddle.Tensor) -> paddle.Tensor:
    return x.reshape([x.shape[0], -1])


_COLLAPSES: dict[str, Callable[[paddle.Tensor], paddle.Tensor]] = {
    "channel": lambda x: _flat(x.sum(_CHANNEL)),
    "vertical": lambda x: _flat(x.sum(_HEIGHT)),
    "horizon": lambda x: _flat(x.sum(_WIDTH)),
    "spatial": lambda x: paddle.concat([_flat(x.sum(_HEIGHT)), _flat(x.sum(_WIDTH))], axis=1),
    "global": lambda x: x.sum([_HEIGHT, _WIDTH]),
    "none": _flat,
}
_CRITERIA: dict[str, Callable[[paddle.Tensor, paddle.Tensor], paddle.Tensor]] = {
    "cosine": cosine,
    "l1": l1,
    "l2": l2,
    "euclidean": lambda new, old: row_distance(new, old).mean(),
}


def pooled_vector(feature_map: paddle.Tensor, collapse: str = "spatial") -> paddle.Tensor:
    """Unit vectors of pooled squared activations: [B, C, H, W] to [B, V].

    ``collapse`` names the axis that is summed away: ``channel`` (V = H·W), ``vertical`` (over H, V =
    C·W), ``horizon`` (over W, V = C·H), ``spatial`` (the last two side by side), ``global`` (V = C),
    ``none`` (V = C·H·W).
    """
    return l2_normalize(_choose("collapse", collapse, _COLLAPSES)(feature_map.square()))


def pod_maps(
    new: Sequence[paddle.Tensor],
    old: Sequence[paddle.Tensor],
    collapse: str = "spatial",
    criterion: str = "cosine",
) -> paddle.Tensor:
    """Mean over stages of ``criterion`` between pooled vectors of the maps [B, C_s, H_s, W_s].

    ``criterion``: ``cosine`` = mean (1 - cos), ``l1`` = mean of summed absolute, ``l2`` = mean of summed
    squared differences, ``euclidean`` = mean length of the difference (the paper's).

    Raises:
        UserError: the numbers of maps or their shapes differ, or a name is unknown.
    """
    if len(new) != len(old) or not new:
        raise UserError(f"podnet compares stage maps one by one, got {len(new)} of the student, {len(old)}")
    compare = _choose("criterion", criterion, _CRITERIA)
    terms = []
    for new_map, old_map in zip(new, old, strict=True):
        require_same_shape(new_map, old_map, "maps")
        terms.append(compare(pooled_vector(new_map, collapse), pooled_vector(old_map, collapse)))
    return paddle.add_n(terms) / len(terms)


def _choose(kind: str, name: str, table: dict[str, Any]) -> Any:
    if not isinstance(name, str) or name not in table:
        raise UserError(f"podnet: unknown {kind} '{name}'{nearest(str(name), table)}")
    return table[name]


@dataclass(frozen=True)
class PODNet(Distillation):
    """Type ``podnet``: factors[0]·criterion(embeddings) + factors[1]·:func:`pod_maps`."""

    needs: ClassVar[frozenset[str]] = frozenset({"embedding", "maps"})
    collapse: str = "spatial"
    criterion: str = "cosine"
    factors: tuple[float, float] = (5.0, 8.0)

    def __post_init__(self) -> None:
        _choose("collapse", self.collapse, _COLLAPSES)
        _choose("criterion", self.criterion, _CRITERIA)
        object.__setattr__(self, "factors", factor_pair("podnet", self.factors))

    def _loss(self, student: Any, teacher: Any, pids: Any, context: Context) -> paddle.Tensor:
        flat = _CRITERIA[self.criterion](*embeddings(student, teacher))
        old_maps = [old.detach() for old in widen(teacher.maps)]
        maps = pod_maps(widen(student.maps), old_maps, self.collapse, self.criterion)
        return self.factors[0] * flat + self.factors[1] * maps
