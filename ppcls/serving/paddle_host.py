"""What a pipeline operator of Paddle Serving needs from this project: its settings, and the way in and out of a model.

Runs on Python 3.9 too, the newest that Paddle Serving 0.9 is made for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ppcls.configs.exported import read_exported
from ppcls.configs.options import read_yaml
from ppcls.configs.serving import ServeOptions
from ppcls.data.transform import EvalTransform
from ppcls.serving.images import read_image
from ppcls.serving.problems import BadRequest
from ppcls.serving.protocol import ErrNo, ServingError, image_name, parse_request, response
from ppcls.utils.errors import UserError
from ppcls.utils.registry import nearest


class OperatorCodec:
    """Between a request's pairs and the arrays of the model in ``folder`` (a ``serving_server`` of ``convert.py``).

    Raises:
        UserError: no sidecar in the folder, or one of a model that preprocesses in its graph.
    """

    def __init__(self, folder: str | Path) -> None:
        self.model = read_exported(folder)
        spec = self.model.input
        if spec.layout != "NCHW":
            raise UserError(f"{folder}: the model preprocesses in its graph, which Paddle Serving cannot run")
        # What ppcls.retrieval.predictor.preprocess returns, which Python 3.9 cannot import; a test compares the two.
        self._transform = EvalTransform(spec.height, spec.width, spec.mean, spec.std)
        self._max_pixels = ServeOptions().max_pixels

    def feed(self, pairs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """The graph's input, float32 [N, 3, H, W], of base64 texts by key.

        Raises:
            ServingError: no image, or one that cannot be read.
        """
        texts = {key: value for key, value in pairs.items() if isinstance(value, str)}
        others = [{"name": key, "elem_type": 1} for key in pairs if key not in texts]  # arrays; 1 is float32
        message = {"key": list(texts), "value": list(texts.values()), "tensors": others, "logid": 0}
        rows = [self._row(key, text) for key, text in parse_request(message).images]
        return {self.model.input.name: np.stack(rows)}

    def answer(self, fetched: Mapping[str, np.ndarray]) -> dict[str, str]:
        """``{"features": "[[…], …]"}`` from the graph's one output, float32 [N, D], whatever its alias."""
        (features,) = fetched.values()
        message = response(features)
        return dict(zip(message["key"], message["value"]))  # noqa: B905  no strict= on Python 3.9

    def _row(self, key: str, text: str) -> np.ndarray:
        try:
            return self._transform(read_image(text, self._max_pixels))
        except BadRequest as problem:
            raise ServingError(ErrNo.INPUT, f"{image_name(key)}: {problem}") from None


def read_settings(path: str | Path, changes: list[str], op: str) -> dict[str, Any]:
    """The settings in ``config.yml`` with ``changes`` (``a.b:value``), each read as the type of what it replaces.

    Raises:
        UserError: unreadable settings, a key that they do not have, a value of another type, a model folder that
            ``convert.py`` has not made.
    """
    settings = read_yaml(path)
    for change in changes:
        _apply(settings, change)
    try:
        local = settings["op"][op]["local_service_conf"]
        folder = Path(local["model_config"])
    except (KeyError, TypeError):
        raise UserError(f"{path} has no op.{op}.local_service_conf.model_config") from None
    if not (folder / "serving_server_conf.prototxt").is_file():
        raise UserError(
            f"{folder.absolute()} is no serving_server folder; make it with deploy/paddleserving/convert.py"
        )
    OperatorCodec(folder)
    return settings


def _apply(settings: dict[str, Any], change: str) -> None:
    key, separator, text = change.partition(":")
    if not separator:
        raise UserError(f"--opt {change}: expected KEY:VALUE, for example http_port:18081")
    *parents, last = key.strip().split(".")
    target: Any = settings
    for parent in parents:
        target = target.get(parent) if isinstance(target, dict) else None
    if not isinstance(target, dict) or last not in target:
        known = list(target) if isinstance(target, dict) else list(settings)
        raise UserError(f"--opt {change}: no such setting{nearest(last, known)}")
    target[last] = _as(type(target[last]), text.strip().strip("\"'"), change)


def _as(kind: type, text: str, change: str) -> Any:
    try:
        value = text if kind is str else yaml.safe_load(text)
    except yaml.YAMLError:
        value = None
    if type(value) is not kind:
        raise UserError(f"--opt {change}: expected {'a list, as [a, b]' if kind is list else kind.__name__}")
    return value
