"""Cells that hold a list as a program writes it: ['cat', 'dog'] of Python, JSON or NumPy, sets,
tuples, {cat,dog}.
"""

import re
from dataclasses import dataclass

_CLOSING = {"[": "]", "(": ")", "{": "}"}
_QUOTED = r"""[uU]?'((?:[^'\\]|\\.)*)'|[uU]?"((?:[^"\\]|\\.)*)\""""
_BARE = r"""[^\s,\[\](){}'":][^,\[\](){}'":]*"""  # a number, or a name of one or more words
_ITEM = re.compile(
    rf"(?:{_QUOTED}|np\.str_\((?:{_QUOTED})\)|np\.\w+\(([-+\w.]+)\)|({_BARE}))", re.DOTALL
)
_BETWEEN = re.compile(r"\s*(,?)\s*")
_WRAPPED = re.compile(
    r"(?:(?:np\.)?array|set|frozenset|list|tuple)\((.*?)(?:,\s*dtype=[^()\[\]]*)?\)", re.DOTALL
)
_NUMBERS = re.compile(r"[-+\d.eE\s]+")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}


@dataclass(frozen=True)
class Items:
    """The items of a list. `quoted`: it is certainly a list. `commas`: some are between the items."""

    names: tuple[str, ...]
    quoted: bool
    commas: bool


def as_list(cell: str) -> Items | None:
    """Read a cell as a flat list of names or numbers; None where it is none."""
    wrapped = _WRAPPED.fullmatch(cell)
    text = wrapped[1].strip() if wrapped else cell
    if wrapped and not text:
        return Items((), True, False)  # set()
    closing = _CLOSING.get(text[:1])
    if closing is None:
        items = _items(text) if text[:1] in ("'", '"') else None  # 'cat', 'dog' without brackets
    elif len(text) > 1 and text[-1] == closing:
        items = _items(
            text[1:-1].strip(), mixed=text[0] == "{"
        )  # {cat,"traffic light"} of PostgreSQL
        if (
            items is not None
            and text[0] == "("
            and items.names
            and not (items.quoted or items.commas)
        ):
            return None  # a name in parentheses
    else:
        return None
    return items if items is None or not wrapped else Items(items.names, True, items.commas)


def _items(text: str, mixed: bool = False) -> Items | None:
    """Read what is between the brackets; `mixed`: some names may have quotes and others none."""
    names: list[str] = []
    num_quoted = 0
    commas = False
    at = 0
    while at < len(text):
        found = _ITEM.match(text, at)
        if found is None:
            return None
        quoted = next((part for part in found.groups()[:4] if part is not None), None)
        if quoted is not None:
            names.append(_unescaped(quoted))
            num_quoted += 1
        else:
            bare = (found[5] or found[6]).strip()
            names += bare.split() if _NUMBERS.fullmatch(bare) else [bare]
        between = _BETWEEN.match(text, found.end())
        assert between is not None
        if between.end() == found.end() and between.end() < len(text):
            return None  # 'it''s'
        commas = commas or bool(between[1])
        at = between.end()
    if num_quoted not in (0, len(names)) and not mixed:
        return None
    return Items(tuple(names), num_quoted > 0, commas)


def _unescaped(text: str) -> str:
    """Replace the escapes of Python and JSON, in which a character may be two, as UTF-16 has it."""
    if "\\" not in text:
        return text
    plain = _ESCAPE.sub(_character, text)
    return plain.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _character(found: re.Match[str]) -> str:
    digits = found[1] or found[2] or found[3]
    if digits is None:
        return _ESCAPES.get(found[4], found[4])
    return chr(int(digits, 16)) if int(digits, 16) < 0x110000 else "\ufffd"
