"""Functions that paddle 3.3 no longer offers while it traces into its older format, put back.

Since 3.3 some of paddle's functions are bound straight to C++ and take only values of the current graph format. The
operators themselves exist in the older format as before, under the names used here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import paddle
import paddle.nn.functional as F
from paddle.base.layer_helper import LayerHelper

_UNARY = {"abs": "abs", "exp": "exp", "floor": "floor", "rsqrt": "rsqrt", "sqrt": "sqrt", "tanh": "tanh"}
_BINARY = {"logical_and": "logical_and", "maximum": "elementwise_max", "minimum": "elementwise_min"}


def restore_operators() -> None:
    """Replace paddle's functions in this process, which must do nothing else than write one graph."""
    for name, operator in _UNARY.items():
        setattr(paddle, name, _unary(operator))
    for name, operator in _BINARY.items():
        setattr(paddle, name, _binary(operator))
    F.sigmoid = _unary("sigmoid")
    paddle.amp.auto_cast = _no_mixed_precision
    paddle.matmul = _matmul


def _no_mixed_precision(enable=False, **_settings):
    """Tracing the older format knows no automatic mixed precision, so there is nothing to switch off."""
    return contextlib.nullcontext()


def _append(operator: str, inputs: dict, dtype, attributes: dict | None = None):
    helper = LayerHelper(operator)
    out = helper.create_variable_for_type_inference(dtype)
    helper.append_op(type=operator, inputs=inputs, outputs={"Out": [out]}, attrs=attributes or {})
    return out


def _unary(operator: str) -> Callable:
    def function(x, name=None):
        return _append(operator, {"X": [x]}, x.dtype)

    return function


def _binary(operator: str) -> Callable:
    def function(x, y, out=None, name=None):
        return _append(operator, {"X": [x], "Y": [y]}, x.dtype)

    return function


def _matmul(x, y, transpose_x=False, transpose_y=False, name=None):
    return _append("matmul_v2", {"X": [x], "Y": [y]}, x.dtype, {"trans_x": transpose_x, "trans_y": transpose_y})
