"""What is odd about the names of classes: what labels become when they are read wrongly, and names
that look alike.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from preprocess.reading.split_names import only_neutral, split_of, splits_among
from shards.host.picture_files import is_image

_NAMED = 3  # in a line about many
_LONG = 100  # characters of a name
_SHOWN = 50
_VEHICLES = frozenset(
    (
        *("car", "bus", "truck", "boat", "ship", "bicycle", "bike", "motorbike", "motorcycle"),
        *("airplane", "aeroplane", "plane", "tram"),
    )
)
_MISSING = frozenset(("nan", "none", "null", "n/a", "na", "nil", "<na>", "undefined", "?"))
_LISTS = re.compile(
    r"""[\[{(]\s*['"].*|.*['"]\s*[\]})]|[\[{][^\]}]*|[^\[{]*[\]}]|\[.*\]|\{.*\}""", re.DOTALL
)
_NUMBERS = re.compile(r"[\[(]?\s*[-+]?\d+(\.\d*)?([\s,;|]+[-+]?\d+(\.\d*)?)+[\s,;|]*[\])]?")
_FRACTION = re.compile(r"[-+]?\d*\.\d+([eE][-+]?\d+)?")
_ESCAPES = re.compile(r"\\|&(#\d+|#x[0-9a-fA-F]+|[a-zA-Z]+);|%[0-9A-F]{2}")
_QUOTES = "\"'`\u201c\u201d\u201e\u2018\u00ab\u00bb"


@dataclass(frozen=True)
class Remark:
    """What is odd about some names, and what to ask. `certain`: almost surely a mistake, so nothing
    is packed.
    """

    text: str
    ask: str = "are they meant"
    certain: bool = False
    about_splits: bool = False


def odd_names(names: Sequence[str]) -> Iterator[Remark]:
    """Yield what is odd about the names of classes, what is surely wrong first."""
    found = [remark for check in _CHECKS for remark in check(names)]
    yield from sorted(found, key=lambda remark: not remark.certain)


def quoted_name(name: str) -> str:
    """Quote a name for a message: on one line, bounded, what cannot be seen as its number."""
    seen = "".join(
        char if char == " " or not _is_unseen(char) else ascii(char)[1:-1] for char in name[:_SHOWN]
    )
    return f"'{seen}{'...' if len(name) > _SHOWN else ''}'"


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    more = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
    return ", ".join(map(quoted_name, found[:_NAMED])) + more


def _classes(found: Sequence[str]) -> str:
    return f"class {_listed(found)}" if len(found) == 1 else f"classes {_listed(found)}"


def _splits(names: Sequence[str]) -> Iterator[Remark]:
    """Splits taken for classes. `train` among vehicles is one of them."""
    found = splits_among(names)
    if found and (len(found) == len(names) or len(set(found.values())) > 1):
        yield Remark(
            f"{_classes(list(found))} are named like splits", certain=True, about_splits=True
        )
    elif found:
        lower = {name.lower() for name in names}
        meant = ("train" in found and lower & _VEHICLES) or (
            "valid" in found and "invalid" in lower
        )
        if not meant:
            (first, *_) = found
            yield Remark(
                f"class {quoted_name(first)} is named like the split {split_of(first)}",
                "is it a class",
            )


def _lists(names: Sequence[str]) -> Iterator[Remark]:
    found = [name for name in names if _LISTS.fullmatch(name)]
    if found:
        yield Remark(f"{_classes(found)} look like pieces of a list", certain=True)
    brackets = [name for name in names if name not in found and _has_bracket(name)]
    if brackets:
        yield Remark(f"{_classes(brackets)}: with brackets")


def _has_bracket(name: str) -> bool:
    return (
        bool(re.search(r"[\[\]{}<>]", name))
        or name.startswith("(")
        or name.count("(") != name.count(")")
    )


def _quotes(names: Sequence[str]) -> Iterator[Remark]:
    found = [name for name in names if name[0] in _QUOTES or name[-1] in _QUOTES or '"' in name]
    if found:
        yield Remark(f"{_classes(found)}: with quotes", certain=2 * len(found) >= len(names))


def _numbers(names: Sequence[str]) -> Iterator[Remark]:
    vectors = [name for name in names if _NUMBERS.fullmatch(name.strip())]
    if vectors:
        yield Remark(
            f"{_classes(vectors)}: lists of numbers",
            "are they names",
            2 * len(vectors) >= len(names),
        )
    fractions = [name for name in names if _FRACTION.fullmatch(name.strip())]
    if fractions:
        yield Remark(
            f"{_classes(fractions)}: numbers with a fraction",
            "are they classes, or measured values",
        )


def _separators(names: Sequence[str]) -> Iterator[Remark]:
    ends = [
        name
        for name in names
        if name.strip()[-1:] in tuple(",;|") or name.strip()[:1] in tuple(",;|")
    ]
    if ends:
        yield Remark(f"{_classes(ends)}: with a separator at the end, as a list has", certain=True)
    for separator in "|;,/+&":
        found = [name for name in names if separator in name.strip()[1:-1] and name not in ends]
        if not found:
            continue
        combined = _combined(found, names, separator)
        many = len(found) > 1 and (separator in "|;" or 2 * len(combined) >= len(found))
        if separator in "/+&" and not many:
            continue  # as in indoor/outdoor
        certain = separator in "|;," and (many or (separator in "|;" and bool(combined)))
        text = f"{_classes(combined or found)}: with {separator!r} inside, as between labels"
        yield Remark(text, "is each of them one label", certain)


def _combined(found: Sequence[str], names: Sequence[str], separator: str) -> list[str]:
    """List the names of which every part is a name of its own, or a part of another name too."""
    parts = {name: {part.strip() for part in name.split(separator)} for name in found}
    times = Counter(part for each in parts.values() for part in each)
    single = set(names)
    return [
        name for name in found if all(part in single or times[part] > 1 for part in parts[name])
    ]


def _escapes(names: Sequence[str]) -> Iterator[Remark]:
    found = [name for name in names if _ESCAPES.search(name)]
    if found:
        yield Remark(f"{_classes(found)}: with escapes, as programs write other characters")
    scores = [name for name in names if re.search(r"[^\W\d_]\s*[:=]\s*[-+]?\d", name)]
    if scores:
        yield Remark(
            f"{_classes(scores)}: with a number behind, as a score or box", "is it part of the name"
        )


def _files(names: Sequence[str]) -> Iterator[Remark]:
    found = [name for name in names if is_image(name)]
    if found:
        yield Remark(
            f"{_classes(found)}: names of files", "are they classes", 2 * len(found) >= len(names)
        )


def _unseen(names: Sequence[str]) -> Iterator[Remark]:
    """What no eye sees: control characters, spaces at the ends, marks of no width, spaces that do
    not break.
    """
    broken = [name for name in names if "\ufffd" in name]
    if broken:
        yield Remark(
            f"{_classes(broken)}: with characters lost, the text has another encoding than UTF-8",
            certain=True,
        )
    control = [
        name
        for name in names
        if not name.isprintable() and any(unicodedata.category(char) == "Cc" for char in name)
    ]
    if control:
        yield Remark(f"{_classes(control)}: with control characters", certain=True)
    edges = [name for name in names if name != name.strip() and name not in control]
    if edges:
        yield Remark(f"{_classes(edges)}: with spaces before or behind")
    hidden = [name for name in names if name not in control and _hides_something(name.strip())]
    if hidden:
        yield Remark(f"{_classes(hidden)}: with characters that cannot be seen")


def _is_unseen(char: str) -> bool:
    """Tell marks without width, control characters, and spaces other than the usual one."""
    kinds = ("Cc", "Cf", "Co", "Zl", "Zp", "Zs")
    return char != " " and (unicodedata.category(char) in kinds or char in "\u115f\u3164\u2800")


def _hides_something(name: str) -> bool:
    """Tell a name with such a character; joiners are meant in Persian, in Indian scripts and in
    emoji.
    """
    if name.isascii() and name.isprintable():  # almost all names: 100,000 are looked at in seconds
        return False
    before = " " + name
    return any(
        _is_unseen(c) and (c not in "\u200c\u200d" or b.isascii())
        for b, c in zip(before, name, strict=False)
    )


def _encodings(names: Sequence[str]) -> Iterator[Remark]:
    wrong = [name for name in names if _read_wrongly(name)]
    if wrong:
        yield Remark(f"{_classes(wrong)}: as UTF-8 looks that was read as Windows-1252")
    mixed = [
        name
        for name in names
        if not name.isascii() and any(_is_mixed(word) for word in re.findall(r"\w+", name))
    ]
    if mixed:
        yield Remark(
            f"{_classes(mixed)}: Latin and Cyrillic letters in one word, which look the same"
        )


def _read_wrongly(name: str) -> bool:
    """Tell UTF-8 that was read as Windows-1252, such as `cafÃ©`."""
    try:
        return not name.isascii() and name.encode("cp1252").decode("utf-8") != name
    except UnicodeError:
        return False


def _is_mixed(word: str) -> bool:
    scripts = {unicodedata.name(char, "").partition(" ")[0] for char in word if char.isalpha()}
    return {"LATIN", "CYRILLIC"} <= scripts


def _alike(names: Sequence[str]) -> Iterator[Remark]:
    """Names that a reader would take for the same."""
    kinds = (
        ("the same but for characters that cannot be seen", _trimmed, True),
        (
            "differ only in upper and lower case",
            lambda name: unicodedata.normalize("NFC", name.lower()),
            False,
        ),
        (
            "differ only in their Unicode form",
            lambda name: unicodedata.normalize("NFKC", name),
            False,
        ),
        ("differ only in case, spaces, hyphens or underscores", skeleton, False),
    )
    told: set[str] = set()
    for text, form, certain in kinds:
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(form(name), []).append(name)
        same = [group for group in groups.values() if len(group) > 1 and not told.issuperset(group)]
        told.update(name for group in same for name in group)
        if same:
            pairs = ", ".join(
                " and ".join(map(quoted_name, group[:_NAMED])) for group in same[:_NAMED]
            )
            more = f", and {len(same) - _NAMED:,} more" if len(same) > _NAMED else ""
            yield Remark(f"classes {pairs}{more}: {text}", "are they one class", certain)


def _trimmed(name: str) -> str:
    """Leave out what no eye sees; other spaces become the usual one."""
    if name.isascii() and name.isprintable():
        return name.strip()
    spaced = (" " if char.isspace() else char for char in name)
    return "".join(char for char in spaced if not _is_unseen(char)).strip()


def skeleton(name: str) -> str:
    """Leave out what people write or not between words: `T-shirt`, `t shirt`, `tshirt`; 1-1 is not
    11.
    """
    folded = unicodedata.normalize("NFKC", _trimmed(name).casefold())
    spaced = re.sub(r"(?<=\w)[\s_\-\u2010-\u2015]+(?=\w)|_+", " ", folded).strip()
    return re.sub(r"(?<=\D) | (?=\D)", "", spaced)


def _others(names: Sequence[str]) -> Iterator[Remark]:
    missing = [name for name in names if name.strip().lower() in _MISSING]
    if missing:
        yield Remark(f"{_classes(missing)}: as missing values are written", "is it a class")
    long = [name for name in names if len(name) > _LONG]
    if long:
        yield Remark(
            f"{_classes(long)}: of more than {_LONG} characters", "is it a class, or a text"
        )
    if len(names) == 1:
        place = "is --root, or the place of the labels, another one"
        yield Remark(f"{quoted_name(names[0])} is the only class", place, only_neutral(names[0]))


_CHECKS = (
    _splits,
    _lists,
    _quotes,
    _numbers,
    _separators,
    _escapes,
    _files,
    _unseen,
    _alike,
    _encodings,
    _others,
)
