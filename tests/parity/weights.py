"""Weights for parity tests, drawn by name so that they need no storage."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np

_TORCH_BUFFERS = {"_mean": "running_mean", "_variance": "running_var"}


def torch_name(name: str) -> str:
    """A state name of ours as PyTorch writes it: ``bn._variance`` → ``bn.running_var``."""
    head, _, last = name.rpartition(".")
    last = _TORCH_BUFFERS.get(last, last)
    return f"{head}.{last}" if head else last


def draw(name: str, shape) -> np.ndarray:
    """The float32 value of a state entry with the full torch name ``name`` and torch shape ``shape``."""
    rng = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        value = 1.0 + 0.2 * rng.rand(*shape)
    elif name.endswith(("running_mean", "bias")):
        value = 0.1 * rng.randn(*shape)
    elif len(shape) == 4:
        value = rng.randn(*shape) * np.sqrt(2.0 / (shape[0] * shape[2] * shape[3]))
    elif len(shape) == 2 and "se." in name:
        value = rng.randn(*shape) / np.sqrt(shape[1])
    elif len(shape) == 1:
        value = 1.0 + 0.1 * rng.randn(*shape)
    else:
        value = 0.001 * rng.randn(*shape)
    return value.astype(np.float32)


def draw_state(prefix: str, names_shapes: Mapping[str, tuple]) -> dict[str, np.ndarray]:
    """State of a layer: every entry drawn from its torch name behind ``prefix``; keys stay as given."""
    return {name: draw(prefix + torch_name(name), tuple(shape)) for name, shape in names_shapes.items()}


def fill(layer, prefix: str = "") -> None:
    """Set all parameters and running statistics of a Paddle layer to their drawn values."""
    state = layer.state_dict()
    values = draw_state(prefix, {name: tensor.shape for name, tensor in state.items()})
    for name, tensor in state.items():
        tensor.set_value(values[name])
