"""Commands as argument lists: flags from configuration lines, places filled in, the words that are shown."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ppcls.utils.errors import UserError
from ppcls.utils.registry import nearest
from test_tipc.runner.config import Line, split_words

_PLACE = re.compile(r"\{([a-z_]+)\}")


@dataclass(frozen=True)
class Command:
    """One program run of a chain.

    Attributes:
        stage: what the chain calls it.
        argv: program and arguments; no shell ever sees them.
        log: file that takes standard output and standard error.
        cwd: working directory.
        env: variables set for it.
        makes: paths that must be there when it has ended well; a program that leaves nothing has not succeeded.
        figures: where numbers for ``results.json`` are found afterwards; see :func:`~.figures.figures_of`.
    """

    stage: str
    argv: tuple[str, ...]
    log: Path
    cwd: Path = Path()
    env: Mapping[str, str] = field(default_factory=dict)
    makes: tuple[Path, ...] = ()
    figures: Mapping[str, Path] = field(default_factory=dict)

    @property
    def shown(self) -> str:
        """The command as it could be typed in ``cwd``."""
        return shlex.join(self.argv)


def flag_words(key: str | None, value: str | None, where: str) -> list[str]:
    """Arguments for one key and value.

    ``--name`` and text → both, the text split into words; True and False → ``--name`` and ``--no-name``, argparse's
    switches; ``-o name`` → ``-o name=value``; ``--opt name``, of Paddle Serving's programs → ``--opt name:value``. No
    key or no value → nothing.
    """
    if key is None or value is None:
        return []
    if key.startswith("--opt "):
        return ["--opt", f"{key[6:].strip()}:{value}"]
    if key.startswith("-o "):
        return ["-o", f"{key[3:].strip()}={value}"]
    if key.startswith("--") and value in ("True", "False"):
        return [key if value == "True" else f"--no-{key[2:]}"]
    return [*key.split(), *split_words(value, where)]


def line_words(line: Line, mode: str) -> list[str]:
    """:func:`flag_words` of a line that is no list.

    Raises:
        UserError: it is one.
    """
    value, *others = line.items(mode)
    if others:
        raise UserError(f"{line.where}: one value is needed here, not a list: {line.at(mode)}")
    return flag_words(line.flag, value, line.where)


def program(line: Line, mode: str, python: str) -> list[str]:
    """The command of a line: a ``.py`` file or ``-m module`` runs in ``python``, anything else is a program itself.

    Raises:
        UserError: ``null``.
    """
    words = line.words(mode)
    if not words:
        raise UserError(f"{line.where}: must not be null")
    return [python, *words] if words[0] == "-m" or words[0].endswith(".py") else words


def fill(words: Sequence[str], places: Mapping[str, str], where: str) -> list[str]:
    """Replace ``{name}`` in every word.

    Raises:
        UserError: a name that has no meaning there.
    """

    def put(match: re.Match[str]) -> str:
        if match[1] not in places:
            raise UserError(f"{where}: unknown place '{match[0]}'{nearest(match[1], places)}")
        return places[match[1]]

    return [_PLACE.sub(put, word) for word in words]


def seen_from(path: Path, cwd: Path) -> str:
    """``path``, which is relative to the repository's root, as it is reached from the folder ``cwd`` below it."""
    return str(path) if path.is_absolute() or cwd == Path() else os.path.relpath(path, cwd)
