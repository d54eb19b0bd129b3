"""Names to objects, with an error that helps when a name is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from typing import Any

from ppcls.utils.errors import UserError


def nearest(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the closest known name, else the list of all of them."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else f"; choose one of: {', '.join(known)}"


class Registry:
    """A named set of builders of one ``kind`` ("data set", "distillation", …)."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Any] = {}

    def register(self, *names: str) -> Callable[[Any], Any]:
        """Decorator that files its object under each of ``names``. A name taken twice is a programming error."""

        def add(entry: Any) -> Any:
            for name in names:
                if name in self._entries:
                    raise ValueError(f"{self.kind} '{name}' is registered twice")
                self._entries[name] = entry
            return entry

        return add

    def get(self, name: str) -> Any:
        """The object filed under ``name``.

        Raises:
            UserError: no such name; the message gives the nearest one.
        """
        if name not in self._entries:
            raise UserError(f"unknown {self.kind} '{name}'{nearest(name, self._entries)}")
        return self._entries[name]

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries)

    def __contains__(self, name: str) -> bool:
        return name in self._entries
