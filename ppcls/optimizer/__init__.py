"""Optimisers with parameter groups, and learning-rate schedules."""

from ppcls.optimizer.build import build_optimizer
from ppcls.optimizer.center import CenterOptimizer
from ppcls.optimizer.frozen_start import FrozenStart
from ppcls.optimizer.lr_scheduler import warmup_multistep

__all__ = ["CenterOptimizer", "FrozenStart", "build_optimizer", "warmup_multistep"]
