"""The data sets that a plan's commands name: are they there?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ppcls.data.dataset import open_dataset
from ppcls.utils.errors import UserError
from test_tipc.runner.commands import Command

_DEFAULT_ROOT = "data"


def datasets_of(command: Command) -> list[tuple[str, str]]:
    """(name, root) of each data set on a command line: ``--dataset a b`` and ``--data-root``."""
    roots = _values(command.argv, "--data-root") or [_DEFAULT_ROOT]
    return [(name, roots[-1]) for name in _values(command.argv, "--dataset")]


def check_data(commands: Iterable[Command]) -> None:
    """Open every data set and look for every picture path that the commands read and none of them makes.

    Raises:
        UserError: one is missing or incomplete; the message names the folder and the layout expected.
    """
    commands = list(commands)
    for name, root in dict.fromkeys(pair for command in commands for pair in datasets_of(command)):
        open_dataset(name, root)
    made = {path for command in commands for path in command.makes}
    for command in commands:
        for flag in ("--images", "--img-path"):
            for value in _values(command.argv, flag):
                path = command.cwd / value
                if not path.exists() and path not in made:
                    raise UserError(
                        f"{path} does not exist, which '{command.stage}' reads ({flag}); data/README.md shows "
                        "the layouts of the data sets"
                    )


def _values(argv: Sequence[str], flag: str) -> list[str]:
    """Values of ``--some-flag a b``, ``--some-flag=a`` and ``-o some_flag=a``, in order."""
    found: list[str] = []
    override = f"{flag[2:].replace('-', '_')}="
    taking = False
    for before, word in zip(["", *argv], argv, strict=False):
        if before == "-o" and word.startswith(override):
            found.append(word.removeprefix(override))
        elif word.startswith("-"):
            name, equals, value = word.partition("=")
            taking = name == flag and not equals
            if name == flag and equals:
                found.append(value)
        elif taking:
            found.append(word)
    return found
