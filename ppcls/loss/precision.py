"""Losses run in float32 or float64, whatever precision the network ran in."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import paddle

Function = TypeVar("Function", bound=Callable[..., Any])
_HALF = (paddle.float16, paddle.bfloat16)


def widen(value: Any) -> Any:
    """A half-precision tensor as float32; lists and tuples item by item; anything else as it is."""
    if isinstance(value, paddle.Tensor):
        return value.astype("float32") if value.dtype in _HALF else value
    if isinstance(value, list | tuple):
        return [widen(item) for item in value]
    return value


def full_precision(function: Function) -> Function:
    """Decorator: half-precision arguments become float32 and automatic mixed precision is off inside.

    Differences of nearly equal numbers (distances, residuals) lose every digit in half precision.
    """

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with paddle.amp.auto_cast(enable=False):
            return function(*map(widen, args), **{key: widen(value) for key, value in kwargs.items()})

    return run  # type: ignore[return-value]
