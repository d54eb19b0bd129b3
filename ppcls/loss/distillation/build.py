"""From the ``type`` and ``config`` of a YAML file to a distillation object."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ppcls.loss.distillation.attention import GradCAM, LwM
from ppcls.loss.distillation.base import Distillation
from ppcls.loss.distillation.embedding import L1, L2, NoDistillation
from ppcls.loss.distillation.geodl import GeoDL, GeoDLxLUCIR
from ppcls.loss.distillation.geometric import Cosine, ResTriangle, SimRes, Triangle
from ppcls.loss.distillation.logits import AlwaysBeDreaming, Hinton
from ppcls.loss.distillation.podnet import PODNet
from ppcls.loss.distillation.relational import Metric, Relation, Similitude
from ppcls.loss.distillation.triplet import TriDistillation
from ppcls.utils.errors import UserError
from ppcls.utils.registry import Registry, nearest

DISTILLATIONS = Registry("distillation type")
for _name, _kind in {
    "cosine": Cosine,
    "triangle": Triangle,
    "res-triangle": ResTriangle,
    "sim-res": SimRes,
    "no": NoDistillation,
    "l1": L1,
    "l2": L2,
    "hinton": Hinton,
    "metric": Metric,
    "podnet": PODNet,
    "relation": Relation,
    "similitude": Similitude,
    "GradCAM": GradCAM,
    "LwM": LwM,
    "GeoDL": GeoDL,
    "GeoDLxLUCIR": GeoDLxLUCIR,
    "always-be-dreaming": AlwaysBeDreaming,
    "tri-distillation": TriDistillation,
}.items():
    DISTILLATIONS.register(_name)(_kind)


def build_distillation(type: str, config: Mapping[str, Any] | None = None) -> Distillation:
    """The distillation of that name with its configuration.

    Args:
        type: a name of ``DISTILLATIONS``.
        config: its settings; missing ones take the published values.

    Raises:
        UserError: unknown type, unknown key (the nearest valid one is named) or a value of the wrong kind.
    """
    kind = DISTILLATIONS.get(str(type))
    config = dict(config or {})
    known = [field.name for field in dataclasses.fields(kind)]
    for key in config:
        if key not in known:
            advice = nearest(str(key), known) if known else "; it takes none"
            raise UserError(f"distillation '{type}' has no setting '{key}'{advice}")
    return kind(**config)
