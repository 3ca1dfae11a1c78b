"""A count and its noun agree: 1 shard, 2 shards."""

import ast
import re

import pytest

from shards.errors import count_of
from tests.test_house import MODULES

NOUNS = (
    "shards|images|workers|samples|files|pictures|rows|labels|runs|epochs|bands|channels|columns|"
    "threads|records|layers|positives|findings|classes|processes"
)
PLURAL = re.compile(rf" ?(training )?({NOUNS})\b(?![/-])")


@pytest.mark.parametrize(
    ("num", "noun", "says"),
    [
        (1, ("shard",), "1 shard"),
        (0, ("shard",), "0 shards"),
        (1234, ("class",), "1,234 classes"),
        (1, ("more class",), "1 more class"),
        (2, ("category", "categories"), "2 categories"),
        ("odd", ("row",), "odd rows"),
        (1, ("label is", "labels are"), "1 label is"),
    ],
)
def test_a_noun_follows_its_count(num, noun, says):
    assert count_of(num, *noun) == says


def _is_count(value: ast.expr) -> bool:
    """A length, not of a constant, or a name with num_; of one rank alone nothing speaks of ranks."""
    spelled = ast.unparse(value)
    is_length = spelled.startswith("len(") and not spelled[4:-1].isupper()
    return is_length or ("num_" in spelled and spelled != "num_ranks")


@pytest.mark.parametrize("module", sorted(MODULES))
def test_messages_spell_counts_by_the_one_function(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    odd = [
        f"{node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for value, after in zip(node.values, node.values[1:], strict=False)
        if isinstance(value, ast.FormattedValue)
        and _is_count(value.value)
        and isinstance(after, ast.Constant)
        and PLURAL.match(str(after.value))
    ]
    assert odd == []
