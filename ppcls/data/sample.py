"""One image on disk, as every part of the project sees it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, order=True, slots=True)
class Sample:
    """One picture of one person.

    path: file name. pid: raw person id (0 = distractor in test sets). camid: raw camera number, −1 where
    there is none (dreamed images). domain: index of the data set inside a mixed set, else 0.
    """

    path: str
    pid: int
    camid: int
    domain: int = 0
