"""Published weights into a network's trunk: found, translated, checked, and reported."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from paddle import nn

from ppcls.arch.reid_net import ReIDNet
from ppcls.arch.weight_names import from_torch_names, translate
from ppcls.utils.errors import UserError
from ppcls.utils.weights_io import read_weights

MIN_COVERAGE = 0.95
CHECKPOINTS = Path("checkpoints")

_BANK = re.compile(r"\.bns\.\d+\.")
_GATES = (".ca.", ".sa.", ".se.", ".se_module.")  # no ImageNet file has them, so they do not count against one

_TRUNK = ("conv", "bn1.", "layer", "stem.", "blocks.", "bb_", "res")  # a part the trunk lacks changes its function

_PATTERNS = {
    "plain": (
        "resnet{d}-*_torch2paddle.pdparams",
        "ResNet{d}_pretrained.pdparams",
        "resnet{d}.pdparams",
        "resnet{d}-*.pth",
        "resnet{d}.safetensors",
    ),
    "ibn_a": ("resnet{d}_ibn_a*.pdparams", "resnet{d}_ibn_a*.pth", "resnet{d}_ibn_a*.safetensors"),
    "ibn_b": ("resnet{d}_ibn_b*.pdparams", "resnet{d}_ibn_b*.pth", "resnet{d}_ibn_b*.safetensors"),
    "se_ibn_a": ("se_resnet{d}_ibn_a*.pdparams", "se_resnet{d}_ibn_a*.pth", "se_resnet{d}_ibn_a*.safetensors"),
}

_PADDLECLAS = "https://paddle-imagenet-models-name.bj.bcebos.com/dygraph/legendary_models"
_TORCHVISION = {18: "5c106cde", 34: "333f7ec4", 50: "19c8e357", 101: "5d3b4d8f", 152: "394f9c45"}


@dataclass
class LoadReport:
    """What :func:`load_pretrained` did.

    Attributes:
        path: the file.
        loaded: our names of the tensors that were set.
        missing: trunk tensors that the file lacks; they keep their values.
        unexpected: names of the file without a place in the trunk (heads and counters are not listed).
        coverage: share of the countable trunk tensors that were set, 0 … 1.
    """

    path: Path
    loaded: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    coverage: float = 0.0

    def __str__(self) -> str:
        text = f"{self.path}: {len(self.loaded)} tensors loaded ({self.coverage:.1%} of the trunk)"
        for word, names in (("missing", self.missing), ("unexpected", self.unexpected)):
            text += f", {len(names)} {word}{_some(names)}"
        return text


def load_pretrained(net: ReIDNet, path: str | Path, min_coverage: float = MIN_COVERAGE) -> LoadReport:
    """Load ImageNet or ReID weights into the trunk (and the neck, if the file has one).

    The file may be of torchvision, paddle.vision, PaddleClas, IBN-Net or this project (a full checkpoint; its
    classifier is left alone). Per-domain banks all start from the file's one norm. Either everything fits and
    is set, or nothing is.

    Args:
        net: the network to fill.
        path: ``.pdparams``, ``.pth`` or ``.safetensors``.
        min_coverage: least share of trunk tensors that the file must have. Gates (CBAM, SE) are not counted.

    Raises:
        UserError: unreadable file, a tensor of another shape, less than ``min_coverage``, or blocks, shortcuts or
            gates that this trunk lacks (another depth or variant).
    """
    path = Path(path)
    source = _renamed(_flat_state(read_weights(path), path), net)
    trunk = net.backbone.base.state_dict()
    report, values = LoadReport(path), {}
    for name, target in trunk.items():
        array = source.get(name, source.get(_BANK.sub(".", name)))
        if array is None:
            report.missing.append(name)
        else:
            values[name] = _fitting(array, target, name, path)
            report.loaded.append(name)
    counted = [name for name in trunk if not any(gate in f".{name}" for gate in _GATES)]
    report.coverage = sum(name in values for name in counted) / len(counted)
    neck = {f"bn.{name}": tensor for name, tensor in net.backbone.bn.state_dict().items()}
    for name, target in neck.items():
        array = source.get(name, source.get(_BANK.sub(".", name)))
        if array is not None:
            values[name] = _fitting(array, target, name, path)
            report.loaded.append(name)
    used = set(values) | {_BANK.sub(".", name) for name in values}
    report.unexpected = [name for name in source if name not in used]
    if report.coverage < min_coverage:
        raise UserError(
            f"{path} covers only {report.coverage:.1%} of the trunk's tensors, at least {min_coverage:.0%} "
            f"are needed; missing{_some(report.missing)}; is it of another architecture?"
        )
    if strange := [name for name in report.unexpected if name.startswith(_TRUNK)]:
        raise UserError(
            f"{path} has {len(strange)} tensors{_some(strange)} that this trunk lacks, so it is of a deeper or "
            "another network (PaddleClas' ResNet-18 and -34 are: they project the first shortcut); use torchvision's"
        )
    for name, target in {**trunk, **neck}.items():
        if name in values:
            target.set_value(values[name])
    return report


def load_strict(layer: nn.Layer, state: dict, source: str | Path) -> None:
    """Set every tensor of ``layer`` from ``state`` (our names or PyTorch's); nothing is set unless all fit.

    Args:
        layer: e.g. ``net.backbone`` or ``net.classifier``.
        state: name → array, as ``read_weights(path)["backbone"]``.
        source: file name for messages.

    Raises:
        UserError: missing or unexpected names, or a different shape; the message names them.
    """
    state, own = from_torch_names(state), layer.state_dict()
    missing, unexpected = [n for n in own if n not in state], [n for n in state if n not in own]
    if missing or unexpected:
        raise UserError(
            f"{source} does not fit this network: {len(missing)} tensors missing{_some(missing)}, "
            f"{len(unexpected)} unexpected{_some(unexpected)}; check --depth and the backbone variant"
        )
    values = {name: _fitting(state[name], target, name, source) for name, target in own.items()}
    for name, target in own.items():
        target.set_value(values[name])


def default_pretrained_path(depth: int, variant: str = "plain", folder: str | Path = CHECKPOINTS) -> Path | None:
    """The first known ImageNet file for this network in ``folder``, or None.

    CBAM, SE and separable networks take the plain files; there is no IBN-b file for every block.
    """
    for pattern in _PATTERNS.get(variant, () if "ibn" in variant else _PATTERNS["plain"]):
        if "pretrained" in pattern and depth < 50:  # PaddleClas' shallow networks have another shortcut
            continue
        if found := sorted(Path(folder).glob(pattern.format(d=depth))):
            return found[0]
    return None


def missing_weights_message(depth: int, variant: str = "plain", folder: str | Path = CHECKPOINTS) -> str:
    """One line: which file is missing, where to get it, and how to do without."""
    if "ibn" in variant:
        prefix, kind = "se_" if variant.startswith("se") else "", "ibn_a" if "ibn_a" in variant else "ibn_b"
        where = f"{prefix}resnet{depth}_{kind}-*.pth from https://github.com/XingangPan/IBN-Net/releases/tag/v1.0"
    else:
        where = f"https://download.pytorch.org/models/resnet{depth}-{_TORCHVISION[depth]}.pth"
        if depth >= 50:
            where += f" or {_PADDLECLAS}/ResNet{depth}_pretrained.pdparams"
    return (
        f"no ImageNet weights for ResNet-{depth} in {folder}/: put {where} there, name a file with "
        "--pretrained PATH, or start from random weights with --pretrained none"
    )


def _flat_state(tree: dict, path: Path) -> dict[str, np.ndarray]:
    """The state dict inside a file: the file itself, or under backbone, state_dict or model."""
    for key in ("backbone", "state_dict", "model"):
        if isinstance(tree.get(key), dict):
            tree = tree[key]
    state = {name: value for name, value in tree.items() if isinstance(value, np.ndarray)}
    if not state:
        raise UserError(f"{path} holds no arrays, neither on top nor under backbone, state_dict or model")
    return state


def _renamed(state: dict[str, np.ndarray], net: ReIDNet) -> dict[str, np.ndarray]:
    base = net.backbone.base
    counts = tuple(len(getattr(base, f"layer{stage}")) for stage in range(1, 5))
    ours = translate(state, counts)
    return {ours[name]: value for name, value in state.items() if ours[name] is not None}


def _fitting(array, target, name: str, source) -> np.ndarray:
    """``array`` as the target's dtype. UserError if its shape is another."""
    shape = list(getattr(array, "shape", ["no array"]))
    if shape != list(target.shape):
        raise UserError(
            f"{source}: {name} has shape {shape}, but this network's is {list(target.shape)}; check --depth"
        )
    return np.asarray(array).astype(str(target.dtype).rpartition(".")[2], copy=False)


def _some(names: list[str], limit: int = 3) -> str:
    """`` (a, b, c, …)`` or nothing."""
    if not names:
        return ""
    return f" ({', '.join(names[:limit])}{', …' if len(names) > limit else ''})"
