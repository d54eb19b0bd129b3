"""Sizes of the runs on synthetic data: small enough for two processor cores."""

from __future__ import annotations

from dataclasses import replace

from ppcls.engine.comparison import Settings

_NET = {"depth": 18, "height": 64, "width": 32, "padding": 2, "pretrained": "none", "workers": 1}
_TRAIN = {"epochs": 30, "epochs-decay": [20, 27], "warmup": 3, "learning-rate": 0.02}
# Both domains together have twice the steps in an epoch: as many steps as task 1 and task 2 after each other.
_JOINT = {**_TRAIN, "epochs": 18, "epochs-decay": [12, 16]}
# Half of 64×32 leaves the network maps of one pixel, on which statistics say nothing: all steps at full resolution.
_DREAM = {"shots": 6, "steps": [0, 100], "tv_l2": 1e-3, "bs": 64}
_INCREMENT = {"epochs": 7, "epochs-decay": [6]}


def demo_settings() -> Settings:
    """``make demo``: one seed of the benchmark in minutes, so the long stages take both cores."""
    return replace(benchmark_settings(), dream_shards=2, first_cores=2)


def benchmark_settings() -> Settings:
    """``make lite-benchmark``: the demo's sizes, one core a stage; less than an hour with three seeds."""
    return Settings(
        data={"ids": 48, "test-ids": 32},
        common={**_NET, "batch-size": 32, "print-freq": 50},
        train=_TRAIN,
        joint=_JOINT,
        dream=_DREAM,
        increment=_INCREMENT,
    )


def small_settings() -> Settings:
    """Seconds: for tests of the chain; nothing is learned."""
    return Settings(
        data={"ids": 8, "test-ids": 4, "cams": 2, "images-per-cam": 2, "height": 32, "width": 16},
        common={**_NET, "height": 32, "width": 16, "batch-size": 16},
        train={"epochs": 1, "epochs-decay": [20], "warmup": 0},
        joint={"epochs": 1, "epochs-decay": [20], "warmup": 0},
        dream={"shots": 4, "steps": [2, 2], "bs": 16},
        increment={"epochs": 1, "epochs-decay": [20]},
        dream_shards=2,
    )
