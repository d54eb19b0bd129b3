"""Freshly drawn weights: each depends on a seed, the architecture's name and the parameter's own name alone."""

from __future__ import annotations

import numpy as np
from paddle import nn

from ppcls.utils.seeding import numpy_rng


def draw_weights(layer: nn.Layer, seed: int, architecture: str) -> None:
    """Convolutions ~ N(0, 2/(k²·C_out)) (He et al., ICCV 2015), matrices [out, in] of gates ~ N(0, 1/in).

    Other parameters keep their values.
    """
    for name, parameter in layer.named_parameters():
        if len(parameter.shape) == 4:
            c_out, _, k_h, k_w = parameter.shape
            scale = (2.0 / (c_out * k_h * k_w)) ** 0.5
        elif len(parameter.shape) == 2:
            scale = parameter.shape[1] ** -0.5
        else:
            continue
        values = numpy_rng(seed, architecture, name).standard_normal(parameter.shape, dtype=np.float32)
        parameter.set_value(values * np.float32(scale))
