"""Optimisers with parameter groups, and learning-rate schedules."""

from ppcls.optimizer.build import build_optimizer
from ppcls.optimizer.lr_scheduler import warmup_multistep

__all__ = ["build_optimizer", "warmup_multistep"]
