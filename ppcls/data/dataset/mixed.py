"""Several data sets as one: `a+b` (separate query sets, joint gallery) and `aUb` (joint query set)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ppcls.data.dataset.base import MixedData, ReIDData
from ppcls.data.sample import Sample
from ppcls.utils.errors import UserError


def _split(text: str, separator: str, is_whole: Callable[[str], bool]) -> list[str]:
    """Split at `separator`, but never inside the longest leading piece that is a data set by itself."""
    pieces = text.split(separator)
    result = []
    while pieces:
        sizes = [n for n in range(len(pieces), 0, -1) if is_whole(separator.join(pieces[:n]))]
        size = sizes[0] if sizes else 1
        result.append(separator.join(pieces[:size]))
        pieces = pieces[size:]
    return result


def parse_expression(expression: str, is_dataset: Callable[[str], bool]) -> list[list[str]]:
    """`aUb+c` → [[a, b], [c]].

    `is_dataset` keeps `+` and `U` inside names and paths from being separators.
    """

    def is_union(text: str) -> bool:
        return all(is_dataset(member) for member in _split(text, "U", is_dataset))

    parts = [_split(part, "U", is_dataset) for part in _split(expression, "+", is_union)]
    members = [member for part in parts for member in part]
    if not all(members):
        raise UserError(f"data set expression {expression!r} has an empty member; write a+b or aUb")
    twice = sorted({member for member in members if members.count(member) > 1})
    if twice:
        raise UserError(f"data set {', '.join(twice)} is named twice in {expression!r}")
    return parts


def _shift(samples: Sequence[Sample], pids: int, cameras: int, domain: int) -> list[Sample]:
    return [replace(s, pid=s.pid + pids, camid=s.camid + cameras, domain=domain) for s in samples]


def mix(expression: str, parts: Sequence[Sequence[ReIDData]]) -> MixedData:
    """Join data sets. Ids and cameras of each one are shifted beyond those of the ones before it."""
    mixed = MixedData(expression, "", one_numbering=all(data.one_numbering for part in parts for data in part))
    pids = cameras = domain = 0
    roots = []
    for part in parts:
        union: list[Sample] = []
        for data in part:
            everything = [*data.train, *data.query, *data.gallery]
            mixed.train += _shift(data.train, pids, cameras, domain)
            mixed.gallery += _shift(data.gallery, pids, cameras, domain)
            union += _shift(data.query, pids, cameras, domain)
            pids += 1 + max((sample.pid for sample in everything), default=-1)
            cameras += 1 + max((sample.camid for sample in everything), default=-1)
            domain += 1
            roots.append(data.root)
        mixed.query_sets.append(("U".join(data.name for data in part), union))
        mixed.query += union
    mixed.root = ", ".join(roots)
    return mixed
