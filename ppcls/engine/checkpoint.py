"""Checkpoints: what the next command reads, and the whole state that an exact resume needs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from ppcls.arch.pretrained import load_strict
from ppcls.arch.reid_net import ReIDNet, build_net, check_embedding
from ppcls.configs.schema import StoredNetOptions
from ppcls.utils.errors import UserError
from ppcls.utils.weights_io import read_weights, write_pdparams

CHECKPOINT = "checkpoint.pdparams"
_ARCH_KEYS = ("depth", "last_stride", "pooling", "neck_bias", "variant", "classifier", "height", "width")
# What only networks of the library have, as build_net names it; kept if the file says it.
_TRUNK_KEYS = ("num_domains", "cbam_channel", "groups", "width_per_group", "stem_relu", "caffe", "non_local")
_BLOCKS_TO_DEPTH = {(8, False): 18, (16, False): 34, (16, True): 50, (33, True): 101, (50, True): 152}


@dataclass
class Checkpoint:
    """A loaded network with what is known of it.

    Attributes:
        net: the network, with its classifier.
        epoch: the epoch that would come next in its training.
        arch: depth, last_stride, pooling, neck_bias, variant, and the input height and width it was trained at.
        path: the file it came from.
    """

    net: ReIDNet
    epoch: int
    arch: dict[str, Any]
    path: Path


def network_state(net: ReIDNet) -> dict[str, dict[str, np.ndarray]]:
    """``{"backbone": …, "classifier": …}`` as numpy arrays."""
    parts = {"backbone": net.backbone, "classifier": net.classifier}
    return {
        part: {name: value.astype("float32").numpy() for name, value in layer.state_dict().items()}
        for part, layer in parts.items()
        if layer is not None
    }


def set_network_state(net: ReIDNet, state: Mapping[str, Mapping[str, np.ndarray]], where: str | Path) -> None:
    """Load :func:`network_state`, strictly.

    Raises:
        UserError: a missing or unexpected entry, or a wrong shape; the first ones are named.
    """
    for part, layer in (("backbone", net.backbone), ("classifier", net.classifier)):
        if layer is not None:
            load_strict(layer, state.get(part, {}), f"{where} ({part})")


def save_checkpoint(path: str | Path, net: ReIDNet, next_epoch: int, arch: Mapping[str, Any]) -> None:
    """Write ``backbone``, ``classifier`` and ``epoch``, and the architecture so that nobody has to repeat it."""
    write_pdparams({**network_state(net), "epoch": int(next_epoch), "arch": dict(arch)}, path)


def find_checkpoint(source: str | Path) -> Path:
    """The checkpoint file that ``source``, a file or a run folder, stands for.

    Raises:
        UserError: there is none.
    """
    source = Path(source)
    path = source / CHECKPOINT if source.is_dir() else source
    if not path.is_file():
        raise UserError(f"no checkpoint at {path}; give a run folder that holds {CHECKPOINT}, or the file itself")
    return path


def load_checkpoint(source: str | Path, **wanted: Any) -> Checkpoint:
    """Build the network that a checkpoint holds and fill it.

    Depth and number of classes are read from the weights; the rest from the file's ``arch`` entry, else from
    ``wanted``, else the defaults. A ``wanted`` value (None: no wish) that contradicts the file is an error; a wanted
    ``neck_bias`` wins, as it may change from task to task.

    Raises:
        UserError: no file, not a re-identification checkpoint, or a contradiction.
    """
    path = find_checkpoint(source)
    state = read_weights(path)
    if "backbone" not in state or not isinstance(state["backbone"], dict):
        raise UserError(f"{path} is not a checkpoint of this project: it has no 'backbone' entry")
    arch = _architecture(path, state, wanted)
    classes = state.get("classifier", {}).get("W", np.empty((0, 0))).shape[0]
    net = build_net(
        depth=arch["depth"],
        num_classes=classes,
        last_stride=arch["last_stride"],
        pooling=arch["pooling"],
        neck_bias=arch["neck_bias"],
        variant=arch["variant"],
        classifier=arch["classifier"],
        **{key: arch[key] for key in _TRUNK_KEYS if key in arch},
    )
    set_network_state(net, state, path)
    return Checkpoint(net, int(state.get("epoch", 1)), arch, path)


def load_stored(source: str | Path, options: StoredNetOptions) -> Checkpoint:
    """:func:`load_checkpoint` under a command's options.

    Raises:
        UserError: also where ``--embedding`` is not that of the stored network; the message names the right value.
    """
    loaded = load_checkpoint(
        source,
        depth=options.depth,
        last_stride=options.last_stride,
        pooling=options.last_pooling,
        variant=options.variant,
        classifier=options.classifier,
        neck_bias=options.neck_bias,
    )
    if options.embedding is not None:
        check_embedding(loaded.arch["depth"], options.embedding)
    return loaded


def _architecture(path: Path, state: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    stored = {"depth": depth_of(state["backbone"], path), **state.get("arch", {})}
    defaults = {"last_stride": 2, "pooling": "avg", "neck_bias": "train", "variant": "plain", "classifier": "linear"}
    wishes = {key: value for key, value in wanted.items() if value is not None}
    for key in ("depth", "last_stride", "pooling", "variant", "classifier"):
        if key in stored and wishes.get(key, stored[key]) != stored[key]:
            flag = {"pooling": "last-pooling"}.get(key, key).replace("_", "-")
            raise UserError(f"{path} was trained with --{flag} {stored[key]}, not {wishes[key]}; leave the flag out")
    if "neck_bias" in wishes:  # says only whether a parameter trains from now on: no contradiction
        stored["neck_bias"] = wishes["neck_bias"]
    known = {key: stored.get(key, wishes.get(key, defaults.get(key))) for key in _ARCH_KEYS}
    return known | {key: stored[key] for key in _TRUNK_KEYS if key in stored}


def depth_of(backbone: Mapping[str, Any], where: str | Path) -> int:
    """The ResNet depth that a backbone's entry names imply."""
    blocks = {match[0] for name in backbone if (match := re.search(r"layer\d\.\d+\.", name))}
    bottleneck = any(re.search(r"layer\d\.\d+\.conv3\.", name) for name in backbone)
    depth = _BLOCKS_TO_DEPTH.get((len(blocks), bottleneck))
    if depth is None:
        raise UserError(f"{where}: {len(blocks)} residual blocks are no ResNet 18, 34, 50, 101 or 152")
    return depth


def optimizer_state(optimizer: paddle.optimizer.Optimizer, net: ReIDNet) -> dict[str, np.ndarray]:
    """Moments by the parameters' own names, which unlike paddle's do not depend on what else the process built."""
    own = {parameter.name: name for name, parameter in net.named_parameters()}
    state = {}
    for key, value in optimizer.state_dict().items():
        if not isinstance(value, paddle.Tensor):
            continue
        parameter = max((name for name in own if key.startswith(name)), key=len)
        state[f"{own[parameter]}|{key[len(parameter) :]}"] = value.numpy()
    return state


def set_optimizer_state(optimizer: paddle.optimizer.Optimizer, net: ReIDNet, state: Mapping[str, np.ndarray]) -> None:
    """Take back :func:`optimizer_state` into a fresh optimiser over the same network."""
    own = {name: parameter.name for name, parameter in net.named_parameters()}
    renamed = {}
    for key, value in state.items():
        name, _, suffix = key.partition("|")
        renamed[own[name] + suffix] = paddle.to_tensor(value)
    optimizer.set_state_dict(renamed)
