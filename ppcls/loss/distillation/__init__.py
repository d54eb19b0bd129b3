"""Distillation losses: what a new network keeps of an old one. ``build_distillation`` makes them by name."""

from ppcls.loss.distillation.base import Distillation
from ppcls.loss.distillation.build import DISTILLATIONS, build_distillation

__all__ = ["DISTILLATIONS", "Distillation", "build_distillation"]
