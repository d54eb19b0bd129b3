"""From an algorithm's configuration to a method."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ppcls.configs.algo import AlgoConfig
from ppcls.loss.distillation import build_distillation
from ppcls.method.augmented import AugmentedDistillation
from ppcls.method.base import Method, PreviousMethod
from ppcls.method.co_distillation import CoDistillation
from ppcls.method.incremental import Incremental
from ppcls.method.inversion_incremental import InversionIncremental
from ppcls.method.lwm import LearningWithoutMemorizing
from ppcls.method.metric_memory import MetricMemory
from ppcls.method.regularized import ElasticWeightConsolidation, MemoryAwareSynapses
from ppcls.utils.errors import UserError
from ppcls.utils.registry import Registry, nearest

if TYPE_CHECKING:
    from ppcls.arch.reid_net import ReIDNet


@dataclass(frozen=True)
class MethodEntry:
    """A method's class, and how its own arguments are read from a configuration."""

    kind: type[PreviousMethod]
    arguments: Callable[[AlgoConfig], dict[str, Any]]


METHODS = Registry("method")


def _distillation(algo: AlgoConfig) -> dict[str, Any]:
    term = algo.distillation
    return {"distillation": build_distillation(term.type, term.config), "factor": term.factor}


def _augmented(algo: AlgoConfig) -> dict[str, Any]:
    if algo.distillation.cross_factor is None:
        raise UserError("augmented distillation needs distillation.cross_factor, for example 0.9")
    return {**_distillation(algo), "cross_factor": algo.distillation.cross_factor}


def _co_distillation(algo: AlgoConfig) -> dict[str, Any]:
    if algo.co_distillation is None:
        raise UserError("method co_distillation needs co_distillation.factor, for example 3")
    return {**_distillation(algo), "mmd_factor": algo.co_distillation.factor}


def _regularization(algo: AlgoConfig, known: tuple[str, ...] = ()) -> tuple[float, dict[str, Any]]:
    if algo.regularization is None:
        raise UserError(f"method {algo.method_name} needs regularization.factor in its configuration")
    for key in algo.regularization.config:
        if key not in known:
            raise UserError(f"regularization.config: unknown key '{key}'{nearest(key, known)}")
    return algo.regularization.factor, algo.regularization.config


def _penalty(algo: AlgoConfig) -> dict[str, Any]:
    return {"factor": _regularization(algo)[0]}


def _lwm(algo: AlgoConfig) -> dict[str, Any]:
    return {**_distillation(algo), "attention_factor": _regularization(algo)[0]}


def _metric_memory(algo: AlgoConfig) -> dict[str, Any]:
    factor, parameters = _regularization(algo, ("temperature", "momentum"))
    return {**_distillation(algo), "bank_factor": factor, **parameters}


for _name, _kind, _arguments in (
    ("inversion_incremental", InversionIncremental, _distillation),
    ("augmented", AugmentedDistillation, _augmented),
    ("incremental", Incremental, _distillation),
    ("co_distillation", CoDistillation, _co_distillation),
    ("ewc", ElasticWeightConsolidation, _penalty),
    ("mas", MemoryAwareSynapses, _penalty),
    ("lwm", LearningWithoutMemorizing, _lwm),
    ("metric_memory", MetricMemory, _metric_memory),
):
    METHODS.register(_name)(MethodEntry(_kind, _arguments))


def build_method(net: ReIDNet, previous: ReIDNet, algo: AlgoConfig, views: int = 1) -> Method:
    """The method that ``algo`` names, over a grown student and a frozen previous network.

    Raises:
        UserError: unknown method, distillation type or parameter; a missing factor.
    """
    entry: MethodEntry = METHODS.get(algo.method_name)
    return entry.kind(net, previous, **entry.arguments(algo), views=views)


def streams_of(algo: AlgoConfig) -> tuple[str, ...]:
    """The data streams that the method of ``algo`` reads, known before any network exists."""
    return METHODS.get(algo.method_name).kind.streams
