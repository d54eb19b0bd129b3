"""The algorithm files of this folder: which method, with which weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ppcls.configs.options import Options, option, read_yaml, validate
from ppcls.utils.errors import UserError

CONFIG_FOLDER = Path(__file__).parent


class Distillation(Options):
    """What keeps the student near the teacher."""

    type: str = "no"
    factor: float = 1.0
    config: dict[str, Any] = option({}, help="the type's own parameters")
    cross_factor: float | None = option(None, help="c of augmented distillation", ge=0, le=1)


class Weighted(Options):
    """A further term with its weight."""

    factor: float
    config: dict[str, Any] = option({}, help="the term's own parameters")


class AlgoConfig(Options):
    """A file of ``ppcls/configs``: it selects the method and its weights."""

    method: str | None = None
    distillation: Distillation = Distillation()
    co_distillation: Weighted | None = None
    regularization: Weighted | None = None

    @property
    def method_name(self) -> str:
        """``method``, or what the published files, which lack that key, mean."""
        if self.method:
            return self.method
        if self.distillation.cross_factor is not None:
            return "augmented"
        return "co_distillation" if self.co_distillation else "inversion_incremental"


def load_algo(name_or_path: str, overrides: dict[str, Any] | None = None) -> AlgoConfig:
    """An algorithm's file, by path or by the name of one that ships with the project.

    Raises:
        UserError: no name given, no such file, unknown key or wrong type.
    """
    known = sorted(path.stem for path in CONFIG_FOLDER.glob("*.yaml"))
    if not name_or_path:
        raise UserError(f"--algo-config is missing; give a YAML file or one of: {', '.join(known)}")
    path = Path(name_or_path)
    if not path.is_file() and name_or_path in known:
        path = CONFIG_FOLDER / f"{name_or_path}.yaml"
    if not path.is_file():
        raise UserError(
            f"no such algorithm configuration: {name_or_path}; give a YAML file or one of: {', '.join(known)}"
        )
    return validate(AlgoConfig, _merge(read_yaml(path), overrides or {}), path)


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged
