"""JSON as Paddle Serving's HTTP gateway reads and writes it.

The gateway is a Go program (grpc-gateway 1, jsonpb). Its dialect differs from Python's: text after the first value is
ignored, an empty body is ``{}``, numbers are checked as they are spelt, and ``<``, ``>``, ``&`` are escaped. Clients
that compare bytes see no difference from the functions here; ``tests/serving/recorded_gateway.json`` holds what the
real one answered.
"""

from __future__ import annotations

import json
import re
from typing import Any

END_OF_BODY, END_OF_TEXT = "unexpected EOF", "unexpected end of JSON input"
_SPACE = " \t\r\n"
_BEGINNING = "looking for beginning of value"
_LONGEST_SHOWN = 100


class GatewayError(ValueError):
    """The gateway refuses a body before the service sees it; the message is in Go's words."""


class Number(str):
    """A JSON number as it was spelt."""


def decode(body: bytes, at_the_end: str = END_OF_BODY) -> Any:
    """The first JSON value of ``body``; None if there is none. Numbers come back as :class:`Number`.

    Raises:
        GatewayError: not JSON; ``at_the_end`` is the message where the text stops too early.
    """
    text = body.decode("utf-8", "replace")
    start = len(text) - len(text.lstrip(_SPACE))
    if start == len(text):
        return None
    try:
        return _DECODER.raw_decode(text, start)[0]
    except json.JSONDecodeError:
        raise GatewayError(_in_go_words(body, at_the_end)) from None
    except RecursionError:
        raise GatewayError("invalid character '[' exceeded max depth") from None


def encode(value: Any) -> bytes:
    """Compact UTF-8 JSON of strings, integers, lists and dicts, with Go's escapes."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    if any(sign in text for sign in _SIGNS):  # a few passes in C; the expression would take longer than the encoding
        text = _SPECIAL.sub(lambda found: _ESCAPES.get(found[0], found[0]), text)
    return text.encode("utf-8")


def kind(value: Any) -> str:
    """Go's name of a decoded value's type."""
    if isinstance(value, Number):
        return "number"
    return {bool: "bool", str: "string", list: "array", dict: "object"}[type(value)]


def cannot_unmarshal(value: Any, wanted: str) -> GatewayError:
    """The error of a value whose type does not fit the Go type ``wanted``."""
    shown = f"number {shortened(value)}" if isinstance(value, Number) and wanted.startswith("int") else kind(value)
    return GatewayError(f"json: cannot unmarshal {shown} into Go value of type {wanted}")


def shortened(text: str) -> str:
    """The beginning of a caller's own words, for messages: an answer must not be as large as its request."""
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}…"


def valid_text(text: str) -> str:
    """``text`` with the replacement character in place of lone surrogates, which JSON can spell and UTF-8 cannot."""
    return _SURROGATE.sub("\ufffd", text)


def _refuse_constant(name: str) -> Any:
    where = "in numeric literal" if name.startswith("-") else _BEGINNING
    raise GatewayError(f"invalid character '{name.lstrip('-')[0]}' {where}")


def _in_go_words(body: bytes, at_the_end: str) -> str:
    # Go's scanner looks at bytes. In Latin-1 every byte is one character, and JSON's syntax is the same.
    text = body.decode("latin-1")
    try:
        _DECODER.raw_decode(text, len(text) - len(text.lstrip(_SPACE)))
    except json.JSONDecodeError as error:
        place, where = _place_and_reason(text, error.pos, error.msg)
        return f"invalid character {_quoted(text[place])} {where}" if place < len(text) else at_the_end
    raise AssertionError("refused as UTF-8, taken as Latin-1")


def _place_and_reason(text: str, place: int, message: str) -> tuple[int, str]:
    """Where Go's scanner stops and what it says there, from where Python's stops (len(text): the text is too short)."""
    if message.startswith("Invalid control character"):
        return place, "in string literal"
    if message.startswith("Unterminated string"):
        return len(text), ""
    if message.startswith("Invalid \\"):
        return _in_escape(text, text.rindex("\\", 0, place + 1))
    if message.startswith("Illegal trailing comma"):  # Python 3.13 points at the comma, Go at what follows it
        place += 1
    place += len(text[place : place + 64]) - len(text[place : place + 64].lstrip(_SPACE))
    if message.startswith("Expecting ','") and text[place - 1].isdigit() and text[place : place + 1] in tuple(".eE"):
        return _in_number(text, place)
    if message.startswith("Expecting ','"):
        return place, "after array element" if _inside_array(text[:place]) else "after object key:value pair"
    if message.startswith("Expecting ':'"):
        return place, "after object key"
    illegal_comma_in_object = message.startswith("Illegal") and text[place : place + 1] == "}"
    if message.startswith("Expecting property name") or illegal_comma_in_object:
        return place, "looking for beginning of object key string"
    return _in_literal(text, place)


def _in_escape(text: str, backslash: int) -> tuple[int, str]:
    if text[backslash + 1 : backslash + 2] != "u":
        return backslash + 1, "in string escape code"
    digits = re.compile("[0-9a-fA-F]*").match(text, backslash + 2, backslash + 6)
    return digits.end(), "in \\u hexadecimal character escape"


def _in_number(text: str, place: int) -> tuple[int, str]:
    if text[place] == ".":
        return place + 1, "after decimal point in numeric literal"
    return re.compile("[eE][+-]?").match(text, place).end(), "in exponent of numeric literal"


def _in_literal(text: str, place: int) -> tuple[int, str]:
    if text[place : place + 1] == "-":
        return place + 1, "in numeric literal"
    word = next((word for word in ("true", "false", "null") if word[0] == text[place : place + 1]), "")
    for offset, letter in enumerate(word):
        if text[place + offset : place + offset + 1] != letter:
            return min(place + offset, len(text)), f"in literal {word} (expecting '{letter}')"
    return place, _BEGINNING


def _inside_array(text: str) -> bool:
    """Whether the innermost bracket that ``text`` leaves open is a square one."""
    opened: list[str] = []
    for bracket in _BRACKET.findall(_STRING.sub("", _ESCAPED.sub("", text))):
        if bracket in "[{":
            opened.append(bracket)
        elif bracket in "]}":
            opened.pop()
    return bool(opened) and opened[-1] == "["


def _quoted(character: str) -> str:
    """As Go's scanner quotes one byte."""
    if character in _QUOTED:
        return _QUOTED[character]
    if character < " " or character == "\x7f":
        return f"'\\x{ord(character):02x}'"
    return f"'{character}'" if character.isprintable() else f"'\\u{ord(character):04x}'"


_DECODER = json.JSONDecoder(parse_int=Number, parse_float=Number, parse_constant=_refuse_constant)
_QUOTED = {"'": "'\\''", '"': "'\"'", "\\": "'\\\\'"}
_QUOTED |= {pair[0]: f"'\\{pair[1]}'" for pair in ("\aa", "\bb", "\ff", "\nn", "\rr", "\tt", "\vv")}
# One after the other: a single expression for strings with escapes remembers every character of a string.
_ESCAPED, _STRING, _BRACKET = re.compile(r"\\.", re.DOTALL), re.compile('"[^"]*"'), re.compile(r"[][{}]")
_SURROGATE = re.compile("[\ud800-\udfff]")
# A backslash is read together with what it escapes, so that an escaped backslash before a "b" is not taken for "\b".
_SPECIAL = re.compile("[<>&\u2028\u2029]|\\\\.")
_SIGNS = ("<", ">", "&", "\u2028", "\u2029", "\\b", "\\f")
_ESCAPES = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}
_ESCAPES |= {"\\b": "\\u0008", "\\f": "\\u000c"}
