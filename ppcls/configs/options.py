"""From typed schemas to command-line flags and back: one description of every option, no second list to keep in step.

A schema is a pydantic model whose fields are made with :func:`option`. :func:`add_flags` derives an argparse parser
from it; :func:`resolve` merges, in rising precedence, schema defaults < YAML file (``-c``) < flags < ``-o key=value``.
"""

from __future__ import annotations

import argparse
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticUndefined

from ppcls.utils.errors import UserError
from ppcls.utils.registry import nearest

Schema = TypeVar("Schema", bound="Options")


class Options(BaseModel):
    """Base of all schemas: unknown keys are errors, values are checked on assignment too."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True, protected_namespaces=())


def option(default: Any, *flags: str, help: str, group: str = "options", const: Any = None, **limits: Any) -> Any:
    """A field with its flags, its help text and the ``-h`` group it stands in.

    ``const`` is the value of a flag that is given without an argument. ``limits`` go to pydantic (``ge=``, ``gt=``, …).
    """
    extra = {"flags": list(flags), "group": group, "const": const}
    if isinstance(default, (list, dict)):
        return Field(
            default_factory=lambda: type(default)(default),
            description=help,
            json_schema_extra=extra,
            **limits,
        )
    return Field(default, description=help, json_schema_extra=extra, **limits)


def add_flags(parser: argparse.ArgumentParser, schema: type[Options]) -> argparse.ArgumentParser:
    """Give ``parser`` one flag per field of ``schema``, grouped, plus ``-c/--config`` and ``-o/--override``.

    A flag that is not typed leaves no trace in the namespace, so that YAML values below it stay in force. A schema
    that uses ``-c`` or ``-o`` for a field of its own keeps it, and only the long form is added here.
    """
    groups: dict[str, argparse._ArgumentGroup] = {}
    taken = {flag for field in schema.model_fields.values() for flag in _extra(field)["flags"]}
    for name, field in schema.model_fields.items():
        if _unwrap(field.annotation)[0] is dict:
            continue  # nested keys are given as -o name.key=value
        extra = _extra(field)
        group = groups.setdefault(extra["group"], parser.add_argument_group(extra["group"]))
        flags = [*extra["flags"]] or ["--" + name.replace("_", "-")]
        group.add_argument(*flags, dest=name, default=argparse.SUPPRESS, **_argparse_kind(field, extra["const"]))
    general = parser.add_argument_group("configuration")
    short = lambda flag, long: [long] if flag in taken else [flag, long]  # noqa: E731
    general.add_argument(
        *short("-c", "--config"),
        dest="config_file",
        metavar="YAML",
        help="options from a file; flags win over it",
    )
    general.add_argument(
        *short("-o", "--override"),
        dest="overrides",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override any key, dots go into nested ones; wins over everything",
    )
    return parser


class BoolFlag(argparse.BooleanOptionalAction):
    """``--flag`` and ``--no-flag``, and ``--flag=True`` or ``--flag False``, as scripts for other programs write it."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.nargs, self.metavar = "?", "BOOL"

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, value: Any, option_string: Any = None
    ) -> None:
        """Set the flag; a value of its own must be one of the usual words."""
        negated = option_string is not None and option_string.startswith("--no-")
        if value is not None and (negated or value.lower() not in _WORDS):
            words = "takes no value" if negated else f"takes True or False, or no value, not {value!r}"
            raise argparse.ArgumentError(self, words)
        setattr(namespace, self.dest, not negated if value is None else _WORDS[value.lower()])


_PICTURES = (".png", ".jpg")
_WORDS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False, "1": True, "0": False}


def require_picture_name(flag: str, path: str) -> None:
    """For schemas with a picture to write. ValueError for a name whose extension says no format."""
    if Path(path).suffix.lower() not in _PICTURES:
        raise ValueError(f"{flag} {path}: give a name that ends in {' or '.join(_PICTURES)}")


def resolve(schema: type[Schema], args: argparse.Namespace) -> Schema:
    """The options of one command, from its parsed flags.

    Raises:
        UserError: unreadable YAML, an unknown key, a wrong type or a value out of range; the message names the key,
            the value and, for an unknown key, the nearest valid one.
    """
    given = {key: value for key, value in vars(args).items() if key in schema.model_fields}
    values = read_yaml(args.config_file) if args.config_file else {}
    values.update(given)
    apply_overrides(values, args.overrides)
    return validate(schema, values, args.config_file or "the command line")


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML mapping, read with the safe loader.

    Raises:
        UserError: no such file, not YAML, or not a mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no such configuration file: {path}")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"{path} must hold a mapping of option names to values, found {type(values).__name__}")
    return values


def apply_overrides(values: dict[str, Any], overrides: Sequence[str]) -> None:
    """Put every ``a.b=c`` into ``values``; the value is read as a YAML scalar or list, never evaluated."""
    for item in overrides:
        key, separator, text = item.partition("=")
        if not separator or not key.strip():
            raise UserError(f"-o {item}: expected KEY=VALUE, for example -o epochs=20")
        *parents, last = key.strip().split(".")
        target = values
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise UserError(f"-o {item}: '{parent}' has no keys below it")
        try:
            target[last] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UserError(f"-o {item}: the value is not YAML: {' '.join(str(error).split())}") from error


def validate(schema: type[Schema], values: Mapping[str, Any], where: str | Path) -> Schema:
    """``schema(**values)`` with the first problem as one readable line."""
    try:
        return schema(**values)
    except ValidationError as error:
        raise UserError(f"{where}: {_explain(schema, error)}") from error


def _explain(schema: type[Options], error: ValidationError) -> str:
    problem = error.errors()[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"unknown key '{key}'{nearest(str(problem['loc'][-1]), _keys_at(schema, problem['loc'][:-1]))}"
    if problem["type"] == "value_error":
        return str(problem["ctx"]["error"]) if not key else f"{key}: {problem['ctx']['error']}"
    return f"{key}={problem['input']!r}: {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _keys_at(schema: type[Options], location: Sequence[Any]) -> list[str]:
    for part in location:
        inner = schema.model_fields[part].annotation
        candidates = [inner, *typing.get_args(inner)]
        schema = next(c for c in candidates if isinstance(c, type) and issubclass(c, Options))
    return list(schema.model_fields)


def _extra(field: Any) -> dict[str, Any]:
    return field.json_schema_extra or {"flags": [], "group": "options", "const": None}


def _argparse_kind(field: Any, const: Any) -> dict[str, Any]:
    kind, choices, many, optional = _unwrap(field.annotation)
    shown = field.get_default(call_default_factory=True)
    text = (field.description or "").replace("%", "%%")
    text += "" if shown in (None, "", PydanticUndefined, False, []) else f" (default: {_show(shown)})"
    if kind is bool:
        return {"action": BoolFlag, "help": text}
    settings: dict[str, Any] = {"help": text, "metavar": None if choices else _METAVARS.get(kind, "VALUE")}
    if choices:
        settings["metavar"] = "{" + ",".join(str(choice) for choice in choices) + "}"
    if many:
        settings["nargs"] = many
    elif const is not None:
        settings.update(nargs="?", const=const)
    return settings


_METAVARS = {int: "N", float: "X", str: "TEXT", Path: "PATH"}


def _show(value: Any) -> str:
    return " ".join(str(item) for item in value) if isinstance(value, (list, tuple)) else str(value)


def _unwrap(annotation: Any) -> tuple[Any, tuple, str | int | None, bool]:
    """(scalar type, choices, nargs, may be None) of a field's annotation."""
    origin, inner = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        kinds = [kind for kind in inner if kind is not type(None)]
        kind, choices, many, _ = _unwrap(kinds[0])
        return kind, choices, many, True
    if origin is typing.Literal:
        return type(inner[0]), inner, None, False
    if origin is list:
        return *_unwrap(inner[0])[:2], "+", False
    if origin is tuple:
        return *_unwrap(inner[0])[:2], len(inner), False
    return origin or annotation, (), None, False
