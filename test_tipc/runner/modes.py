"""The modes of a chain, and values that depend on them."""

from __future__ import annotations

import re

from ppcls.utils.errors import UserError
from ppcls.utils.registry import nearest

TRAIN_MODES = ("lite_train_lite_infer", "lite_train_whole_infer", "whole_infer", "whole_train_whole_infer")
SERVING, ONNX, BENCHMARK = "serving_infer", "paddle2onnx_infer", "benchmark_train"
MODES = (*TRAIN_MODES, SERVING, ONNX, BENCHMARK)

# Modes of other projects' chains: their names may stand in a configuration, though nothing here runs them.
FOREIGN = ("klquant_whole_infer", "cpp_infer", "lite_infer", "lite_train_infer", "whole_train_infer", "infer")

# What a training benchmark takes where a value names no size for it: it is as small as the lite chain.
_STANDS_IN = {BENCHMARK: "lite_train_lite_infer"}

_KEYED = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


def check_mode(mode: str, allowed: tuple[str, ...]) -> str:
    """``mode``, if a script runs it.

    Raises:
        UserError: it does not.
    """
    if mode not in allowed:
        reason = "is not built here" if mode in FOREIGN else "is no mode of this script"
        raise UserError(f"MODE '{mode}' {reason}{nearest(mode, allowed)}")
    return mode


def keyed(value: str, where: str) -> dict[str, str] | None:
    """``"lite_train_lite_infer=2|whole_infer=9"`` → a dict; None for a value that is the same in every mode.

    Raises:
        UserError: an unknown mode, one that is named twice, or an item without a mode beside others that have one.
    """
    items = value.split("|")
    matches = [_KEYED.fullmatch(item) for item in items]
    if not any(matches):
        return None
    found: dict[str, str] = {}
    for item, match in zip(items, matches, strict=True):
        if match is None:
            raise UserError(f"{where}: '{item}' names no mode, other items of the line do; write <mode>={item}")
        mode, text = match.groups()
        if mode not in (*MODES, *FOREIGN):
            raise UserError(f"{where}: unknown mode '{mode}'{nearest(mode, MODES)}")
        if mode in found:
            raise UserError(f"{where}: mode '{mode}' stands there twice")
        found[mode] = text
    return found


def for_mode(value: str, mode: str, where: str) -> str:
    """What ``value`` is in ``mode``.

    Raises:
        UserError: it depends on the mode and has nothing for this one.
    """
    choices = keyed(value, where)
    if choices is None:
        return value
    for name in (mode, _STANDS_IN.get(mode)):
        if name in choices:
            return choices[name]
    raise UserError(f"{where}: no value for mode '{mode}'; the line has {', '.join(choices)}")
