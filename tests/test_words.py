"""Docstrings, comments, messages and pages are in plain English: words that readers stumbled over
do not return.
"""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Word, as a pattern -> what to write instead.
DIALECT = {
    r"anew": "again, or re-encoded, rewritten",
    r"told": "reported, shown, given",
    r"lies?": "is, is stored",
    r"stands?|stood": "is",
    r"mend(s|ed|ing)?": "fix, repair, correct",
    r"puts? up with": "tolerated",
    r"ledger": "resume state",
    r"(the|same|other|ordinary|whole) roads?": "way, decoder, quick start",
    r"betrays?": "shows, reveals",
}
PATTERN = re.compile(rf"\b({'|'.join(f'(?:{word})' for word in DIALECT)})\b", re.IGNORECASE)
# Phrases in which such a word is the right one.
RIGHT = re.compile(r"\b(stands? out|stands? for|stand-ins?|told apart)\b", re.IGNORECASE)
PAGES = sorted(
    {*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")}
    - {ROOT / "CHANGELOG.md", ROOT / "docs/log.md"}
)
PACKAGES = ("preprocess", "shards", "eval", "train")
TEMPLATES = sorted(path for package in PACKAGES for path in ROOT.glob(f"{package}/**/*.html"))
MODULES = [
    ROOT / "tarmac.py",
    *sorted(path for package in PACKAGES for path in ROOT.glob(f"{package}/**/*.py")),
]
PROSE = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}

# one token before Python 3.12, with the expressions in it
F_STRING = re.compile(r"[rR]?[fF][rR]?[\"']")
EXPRESSION = re.compile(r"\{[^{}]*\}")


def dialect(text: str) -> list[str]:
    """List the words of DIALECT in a text, apart from those in a phrase of RIGHT."""
    return [match.group() for match in PATTERN.finditer(RIGHT.sub("", text))]


def prose_of(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, text) of what people read in a file: a module's strings and comments, or all of
    a page.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".py":
        yield from enumerate(text.splitlines(), 1)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in PROSE:
            text = (
                EXPRESSION.sub("", token.string) if F_STRING.match(token.string) else token.string
            )
            yield from enumerate(text.splitlines(), token.start[0])


READ = [*MODULES, *PAGES, *TEMPLATES]


@pytest.mark.parametrize("path", READ, ids=lambda path: str(path.relative_to(ROOT)))
def test_words_are_plain(path):
    found = [f"{path}:{line}: {word!r}" for line, text in prose_of(path) for word in dialect(text)]
    assert found == [], f"write instead: {DIALECT}"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Encoded anew, and told of.", ["anew", "told"]),
        ("where a file lies; what stands there was mended", ["lies", "stands", "mended"]),
        ("Put up with one bad sample", ["Put up with"]),
        (
            "what stands out; U+FFFD stands for a byte; a stand-in; relies, standard, recommended",
            [],
        ),
    ],
)
def test_words_are_found_and_right_ones_are_not(text, words):
    assert dialect(text) == words


def test_code_is_not_prose_and_its_strings_are(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        'told = 1  # it is\nprint(f"{told} lies here", f"{told}")\n"""Two\nlines, anew."""\n'
    )
    assert [(line, word) for line, text in prose_of(path) for word in dialect(text)] == [
        (2, "lies"),
        (4, "anew"),
    ]


def test_everything_is_read():
    assert len(MODULES) > 150
    assert {"README.md", "CONTRIBUTING.md", "api.md", "sources.md"} <= {path.name for path in PAGES}
