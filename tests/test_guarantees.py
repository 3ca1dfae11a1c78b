"""docs/guarantees.md names tests that exist, and a test for every promise."""

import ast
import re
from pathlib import Path

from shards.options import free_on_resume
from train.config import TrainConfig

ROOT = Path(__file__).parents[1]
ROWS = [
    line.split(" | ")
    for line in (ROOT / "docs/guarantees.md").read_text().splitlines()
    if line.startswith("| ")
]


def test_every_promise_names_a_test_that_exists():
    promises = [row for row in ROWS if not row[0].startswith(("| promise", "| ---"))]
    assert len(promises) > 30
    for promise, _, test in promises:
        named = re.fullmatch(r"(tests/[\w/]+\.py)::(test_\w+) \|", test)
        assert named, promise
        path, name = named.groups()
        tree = ast.parse((ROOT / path).read_text())
        assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, (
            f"{path} has no {name}"
        )


def test_the_options_that_may_change_on_resume_are_those_declared_so():
    text = " ".join((ROOT / "docs/guarantees.md").read_text().split())
    named = re.search(r"named as free \(([^)]*)\)", text)
    assert named
    assert named.group(1) == ", ".join(f"`{name}`" for name in free_on_resume(TrainConfig))
