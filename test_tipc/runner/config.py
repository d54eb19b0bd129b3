"""Reading a configuration file: lines by position, keys checked, then the named sections at its end."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ppcls.utils.errors import UserError
from ppcls.utils.registry import nearest
from test_tipc.runner.dialects import LAYOUTS, Layout, Slot, banner_title
from test_tipc.runner.modes import for_mode, keyed

PREPARE, BEFORE, MORE, AFTER_EVAL, AFTER = (
    "prepare_params",
    "before_params",
    "more_params",
    "after_eval_params",
    "after_params",
)
TRAIN_BENCHMARK, INFER_BENCHMARK = "train_benchmark_params", "infer_benchmark_params"
_STAGE_SECTIONS = (PREPARE, BEFORE, MORE, AFTER_EVAL, AFTER)
_BENCHMARK_KEYS = {
    TRAIN_BENCHMARK: (
        "batch_size",
        "fp_items",
        "epoch",
        "model_type",
        "num_workers",
        "--profiler_options",
        "--profile",
        "flags",
        "skip_steps",
        "convergence_key",
    ),
    INFER_BENCHMARK: ("random_infer_input",),
}
# Values of these hold "word=" for reasons of their own.
_NOT_KEYED = ("--profiler_options", "flags", "random_infer_input")


@dataclass(frozen=True)
class Line:
    """``key:value``, split on the first colon. ``value`` is None for ``null`` and for nothing."""

    key: str
    value: str | None
    number: int = 0
    path: str = ""

    @property
    def where(self) -> str:
        """For messages: file, line and key."""
        return f"{self.path}, line {self.number} ({self.key})"

    def at(self, mode: str) -> str | None:
        """The value in ``mode``; None where it is ``null`` there."""
        if self.value is None:
            return None
        return _null(for_mode(self.value, mode, self.where) if self.key not in _NOT_KEYED else self.value)

    def items(self, mode: str) -> list[str | None]:
        """The parts of a ``|`` list in ``mode``, at least one; ``null`` parts are None."""
        value = self.at(mode)
        return [None] if value is None else [_null(item) for item in value.split("|")]

    def words(self, mode: str) -> list[str]:
        """The value as a list of arguments, quotes as in a shell; empty for ``null``.

        Raises:
            UserError: a quote that is not closed.
        """
        value = self.at(mode)
        return [] if value is None else split_words(value, self.where)

    @property
    def flag(self) -> str | None:
        """The key as a flag; None for ``null``."""
        return _null(self.key)


@dataclass(frozen=True)
class Block:
    """A stage of a section: a command and lines that add flags to it."""

    name: str
    command: Line
    flags: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Config:
    """One file. ``config["epochs"]`` is a line of its layout; a name that this dialect lacks is a ``null`` line."""

    path: str
    layout: Layout
    lines: Mapping[str, Line]
    sections: Mapping[str, tuple[Block, ...]] = field(default_factory=dict)
    benchmark: Mapping[str, Line] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Line:
        return self.lines.get(name, Line("null", None, path=self.path))

    def blocks(self, section: str) -> tuple[Block, ...]:
        """The stages of a section, in order."""
        return self.sections.get(section, ())

    def more(self, name: str) -> tuple[Line, ...]:
        """Flags that the section more_params adds to the command ``name``."""
        return tuple(line for block in self.blocks(MORE) if block.name == name for line in block.flags)

    def required(self, name: str, mode: str) -> str:
        """The value of a line that must not be ``null``.

        Raises:
            UserError: it is.
        """
        value = self[name].at(mode)
        if value is None:
            raise UserError(f"{self[name].where}: must not be null")
        return value


def read_config(path: str | Path, kind: str | None = None) -> Config:
    """Parse a file; ``kind`` is the banner that the calling script needs ("train_params", …).

    Raises:
        UserError: no such file, not text, another kind of file, a wrong key, a missing or a superfluous line. The
            message names file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"no configuration file {path}; those of this project are in test_tipc/configs/")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text: {error}") from error
    return parse(text, str(path), kind)


def parse(text: str, path: str, kind: str | None = None) -> Config:
    """:func:`read_config` of a text. Blank lines do not count, as in every TIPC parser."""
    rows = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    layout = _detect(rows, path, kind)
    if len(rows) < len(layout.slots):
        missing = layout.slots[len(rows)]
        raise UserError(
            f"{path} ends after {len(rows)} of the {len(layout.slots)} lines of the {layout.dialect} dialect; "
            f"the next one is {missing}"
        )
    lines: dict[str, Line] = {}
    for position, (slot, row) in enumerate(zip(layout.slots, rows, strict=False), 1):
        line = _match(slot, row, path, f"{layout.dialect} dialect, line {position} of {len(layout.slots)}")
        if line is not None and slot.field != "spare":
            lines[slot.field] = line
    sections, benchmark = _parse_tail(rows[len(layout.slots) :], path, lines)
    return Config(path, layout, lines, sections, benchmark)


def split_words(value: str, where: str) -> list[str]:
    """Arguments of a command line in a configuration; nothing is expanded or run."""
    try:
        return shlex.split(value)
    except ValueError as error:
        raise UserError(f"{where}: {str(error).lower()} in: {value}") from error


def _null(text: str) -> str | None:
    return None if text.strip() in ("", "null") else text.strip()


def _detect(rows: Sequence[tuple[int, str]], path: str, kind: str | None) -> Layout:
    kinds = list(dict.fromkeys(layout.kind for layout in LAYOUTS))
    title = banner_title(rows[0][1]) if rows else None
    if title not in kinds:
        shown = f"found: {rows[0][1]}" if rows else "the file is empty"
        raise UserError(f"{path}, line 1: expected a banner such as ====={kind or kinds[0]}=====; {shown}")
    if kind is not None and title != kind:
        raise UserError(f"{path}, line {rows[0][0]}: this script needs {kind}, the file holds {title}")
    candidates = [layout for layout in LAYOUTS if layout.kind == title]
    # The dialect that most lines fit, so that one wrong line does not make all others wrong.
    return max(
        candidates, key=lambda layout: sum(s.fits(text) for s, (_, text) in zip(layout.slots, rows, strict=False))
    )


def _match(slot: Slot, row: tuple[int, str], path: str, position: str) -> Line | None:
    number, text = row
    if not slot.fits(text):
        raise UserError(f"{path}, line {number}: expected {slot} ({position}); found: {text}")
    return None if slot.is_banner or slot.is_separator else _line(number, text, path)


def _line(number: int, text: str, path: str) -> Line:
    key, colon, value = text.partition(":")
    if not colon:
        raise UserError(f"{path}, line {number}: expected key:value; found: {text}")
    line = Line(key.strip(), _null(value), number, path)
    if line.value is not None and line.key not in _NOT_KEYED:
        keyed(line.value, line.where)  # an unknown mode is an error wherever it stands
    return line


def _parse_tail(
    rows: Sequence[tuple[int, str]], path: str, lines: Mapping[str, Line]
) -> tuple[dict[str, tuple[Block, ...]], dict[str, Line]]:
    """Sections after the dialect's own lines: each a banner, then blocks of lines, ``##`` between the blocks."""
    sections: dict[str, tuple[Block, ...]] = {}
    benchmark: dict[str, Line] = {}
    title, blocks = "", [[]]

    def close() -> None:
        filled = [block for block in blocks if block]
        if title in _STAGE_SECTIONS:
            sections[title] = tuple(_block(block, title, lines) for block in filled)
        elif title:
            benchmark.update(_benchmark_lines(title, [line for block in filled for line in block]))

    for number, text in rows:
        banner = banner_title(text)
        if banner:
            close()
            known = (*_STAGE_SECTIONS, *_BENCHMARK_KEYS)
            if banner not in known:
                raise UserError(f"{path}, line {number}: unknown section '{banner}'{nearest(banner, known)}")
            if banner in sections:
                raise UserError(f"{path}, line {number}: section '{banner}' stands there twice")
            title, blocks = banner, [[]]
        elif not title:
            raise UserError(f"{path}, line {number}: superfluous line; only sections with a banner follow: {text}")
        elif re.fullmatch("#+", text):
            blocks.append([])
        else:
            blocks[-1].append(_line(number, text, path))
    close()
    return sections, benchmark


def _block(block: Sequence[Line], title: str, lines: Mapping[str, Line]) -> Block:
    head, *flags = block
    for line in flags:
        if not line.key.startswith("-"):
            raise UserError(f"{line.where}: expected a flag (--name or -o name) below '{head.key}', or ## before it")
    if title != MORE:
        if not re.fullmatch(r"[A-Za-z]\w*", head.key):
            raise UserError(f"{head.where}: expected the name of a stage, a colon and its command")
        return Block(head.key, head, tuple(flags))
    if head.key != "more" or head.value not in lines:
        raise UserError(
            f"{head.where}: expected 'more:' and the name of a command above{nearest(str(head.value), lines)}"
        )
    return Block(head.value, head, tuple(flags))


def _benchmark_lines(title: str, block: Sequence[Line]) -> dict[str, Line]:
    for line in block:
        if line.key not in _BENCHMARK_KEYS[title]:
            raise UserError(f"{line.where}: unknown key in {title}{nearest(line.key, _BENCHMARK_KEYS[title])}")
    return {line.key: line for line in block}
