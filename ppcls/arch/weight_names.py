"""How public weights files name the tensors of a ResNet, translated to this project's names.

Ours are torchvision's, with Paddle's ``_mean``/``_variance`` for running statistics: ``conv1.weight``,
``layer1.0.bn1._mean``, ``layer1.0.downsample.0.weight``. Understood besides: wrappers' prefixes, PaddleClas
(``blocks.0.conv0.conv.weight``, ``bb_0_0.conv0._conv.weight``, ``res2a.conv0._conv.weight``) and the names of
Paddle's static-graph era (``res2a_branch2a_weights``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_WRAPPERS = ("module.", "_layers.", "model.", "backbone.", "base.")
_HEADS = ("fc.", "classifier.", "out.", "head.", "fc_", "W")
_LAST = {"running_mean": "_mean", "running_var": "_variance", "scale": "weight"}
_STATIC_LAST = {
    "weights": "weight",
    "scale": "weight",
    "offset": "bias",
    "mean": "_mean",
    "variance": "_variance",
}

_STEM = re.compile(r"^(?:stem\.0|conv1|conv)\.(_?conv|bn|_batch_norm)\.(\w+)$")
_FLAT_BLOCK = re.compile(r"^blocks\.(\d+)\.(.+)$")
_STAGE_BLOCK = re.compile(r"^bb_(\d+)_(\d+)\.(.+)$")
_LETTER_BLOCK = re.compile(r"^res([2-5])([a-z])(\d*)\.(.+)$")
_UNIT = re.compile(r"^(conv|short)(\d?)\.(_?conv|bn|_batch_norm)\.(\w+)$")
_STATIC = re.compile(r"^(?:res|bn)([2-5])([a-z])(\d*)_branch(1|2[a-c])_(\w+)$")
_STATIC_STEM = re.compile(r"^(conv1|bn_conv1)_(\w+)$")
_IGNORED = "num_batches_tracked"


def translate(names: Iterable[str], depth_counts: tuple[int, int, int, int]) -> dict[str, str | None]:
    """Our trunk name for each source name; None for a classification head or a counter.

    Args:
        names: the keys of a state dict.
        depth_counts: blocks per stage, which PaddleClas' running block numbers need.

    Returns:
        source name → our name. What is not understood keeps its (unwrapped) name, so that it is reported as
        unexpected. The neck of a ReID checkpoint comes out as ``bn.*``.
    """
    return {name: _translate(name, depth_counts) for name in names}


def from_torch_names(state: dict) -> dict:
    """A PyTorch state dict of one of our layers, statistics renamed to ours, counters dropped."""
    return {_renamed_last(name): value for name, value in state.items() if not name.endswith(_IGNORED)}


def _translate(name: str, counts) -> str | None:
    while name.startswith(_WRAPPERS):
        name = name.split(".", 1)[1]
    if name.endswith(_IGNORED) or name.startswith(_HEADS):
        return None
    if name.startswith("bottleneck."):  # the neck in the family of strong-baseline checkpoints
        name = "bn." + name.removeprefix("bottleneck.")
    return _static_graph(name) or _paddleclas(name, counts) or _renamed_last(name)


def _renamed_last(name: str) -> str:
    head, dot, last = name.rpartition(".")
    return head + dot + _LAST.get(last, last)


def _paddleclas(name: str, counts) -> str | None:
    if match := _STEM.match(name):
        return ("conv1." if "conv" in match[1] else "bn1.") + _LAST.get(match[2], match[2])
    if match := _FLAT_BLOCK.match(name):
        stage, index = _stage_of(int(match[1]), counts)
        rest = match[2]
    elif match := _STAGE_BLOCK.match(name):
        stage, index, rest = int(match[1]), int(match[2]), match[3]
    elif match := _LETTER_BLOCK.match(name):
        stage, index, rest = int(match[1]) - 2, _letter_index(match[2], match[3]), match[4]
    else:
        return None
    unit = _UNIT.match(rest)
    if unit is None:
        return None
    is_conv, last = "conv" in unit[3], _LAST.get(unit[4], unit[4])
    if unit[1] == "short":
        part = f"downsample.{0 if is_conv else 1}"
    else:
        part = f"{'conv' if is_conv else 'bn'}{int(unit[2]) + 1}"
    return f"layer{stage + 1}.{index}.{part}.{last}"


def _static_graph(name: str) -> str | None:
    if (match := _STATIC_STEM.match(name)) and match[2] in _STATIC_LAST:
        return ("conv1." if match[1] == "conv1" else "bn1.") + _STATIC_LAST[match[2]]
    match = _STATIC.match(name)
    if match is None or match[5] not in _STATIC_LAST:
        return None
    is_conv = name.startswith("res")
    stage, index = int(match[1]) - 1, _letter_index(match[2], match[3])
    if match[4] == "1":
        part = f"downsample.{0 if is_conv else 1}"
    else:
        part = f"{'conv' if is_conv else 'bn'}{'abc'.index(match[4][1]) + 1}"
    return f"layer{stage}.{index}.{part}.{_STATIC_LAST[match[5]]}"


def _letter_index(letter: str, number: str) -> int:
    """Block of its stage: a, b, c … in shallow nets; a, b1, b2 … in the long stages of deep ones."""
    return int(number) if number else ord(letter) - ord("a")


def _stage_of(flat: int, counts) -> tuple[int, int]:
    for stage, count in enumerate(counts):
        if flat < count:
            return stage, flat
        flat -= count
    return len(counts), flat  # beyond the last stage: comes out as unexpected
