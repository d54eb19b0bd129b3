"""Sizes of the runs on synthetic data: small enough for two processor cores."""

from __future__ import annotations

from ppcls.engine.comparison import Settings

_NET = {"depth": 18, "height": 64, "width": 32, "pretrained": "none", "workers": 1, "padding": 4}


def demo_settings() -> Settings:
    """``make demo``: minutes."""
    return Settings(
        data={"ids": 48, "test-ids": 32},
        common={**_NET, "batch-size": 32, "print-freq": 10},
        train={"epochs": 30, "epochs-decay": [22], "warmup": 3, "learning-rate": 0.02},
        dream={"shots": 8, "steps": [150, 75], "bs": 64},
        increment={"epochs": 8, "epochs-decay": [6]},
        dream_shards=2,
        first_cores=1,
    )


def benchmark_settings() -> Settings:
    """``make lite-benchmark``: about an hour with three seeds."""
    return Settings(
        data={"ids": 48, "test-ids": 32},
        common={**_NET, "batch-size": 32, "print-freq": 50},
        train={"epochs": 30, "epochs-decay": [22], "warmup": 3, "learning-rate": 0.02},
        dream={"shots": 8, "steps": [200, 100], "bs": 64},
        increment={"epochs": 10, "epochs-decay": [7]},
    )


def small_settings() -> Settings:
    """Seconds: for tests of the chain; nothing is learned."""
    return Settings(
        data={"ids": 8, "test-ids": 4, "cams": 2, "images-per-cam": 2, "height": 32, "width": 16},
        common={**_NET, "height": 32, "width": 16, "batch-size": 16},
        train={"epochs": 1, "epochs-decay": [20], "warmup": 0},
        dream={"shots": 4, "steps": [2, 2], "bs": 16},
        increment={"epochs": 1, "epochs-decay": [20]},
        dream_shards=2,
    )
