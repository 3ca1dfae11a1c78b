"""The house rules of names and lines: what is public, one name for one thing, one assignment a
line.
"""

import ast
import importlib
import inspect
import re

import pytest

from benchmarks.house_figures import declared, is_swap, parallel, public_names, repeated
from tests.test_house import MODULES, PACKAGES, ROOT

TREES = {module: ast.parse(path.read_text(encoding="utf-8")) for module, path in MODULES.items()}
# Every package or command has one, so that its name is the place and not the module.
MANY_MODULES = {*PACKAGES, "__main__", "config"}


def test_a_class_or_function_has_a_name_of_its_own():
    names = {module: list(public_names(tree)) for module, tree in TREES.items()}
    assert sum(map(len, names.values())) > 300
    assert repeated(names) == {}


def test_a_module_has_a_name_of_its_own():
    bases = {
        module: [module.split(".")[-1]]
        for module, path in MODULES.items()
        if path.name != "__init__.py"
    }
    assert set(repeated(bases)) - MANY_MODULES == set()


def test_repeated_names_are_found():
    first = ast.parse(
        "class Row:\n    def read(self): ...\ndef read(): ...\ndef _own(): ...\ndef main(): ..."
    )
    second = ast.parse("async def read(): ...\ndef _own(): ...\ndef main(): ...")
    names = {"a": list(public_names(first)), "b": list(public_names(second))}
    assert repeated(names) == {"read": ["a", "b"]}


PUBLIC = {f"{module}.{name}" for module, tree in TREES.items() for name in declared(tree) or []}


def test_public_are_a_few_modules():
    homes = {name.rpartition(".")[0] for name in PUBLIC}
    assert {home for home in homes if len(home.split(".")) != 2} == set()  # rooms are private
    assert len(PUBLIC) <= 25


def test_the_page_of_public_names_has_each_of_them():
    page = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    named = set(re.findall(rf"^\| `((?:{'|'.join(PACKAGES)})\.[\w.]+)` \|", page, re.MULTILINE))
    assert named == PUBLIC


@pytest.mark.parametrize("public", sorted(PUBLIC))
def test_a_public_name_is_there_and_says_what_it_is(public):
    module, _, name = public.rpartition(".")
    found = getattr(importlib.import_module(module), name)
    assert found.__doc__, public
    assert not found.__doc__.startswith(f"{name}("), (
        f"{public} has only what a dataclass writes by itself"
    )
    for member, value in vars(found).items() if inspect.isclass(found) else ():
        if not member.startswith("_") and (inspect.isroutine(value) or isinstance(value, property)):
            assert value.__doc__, f"{public}.{member}"


def stray(tree: ast.Module) -> list[str]:
    """Find the assignments in parallel that swap nothing."""
    return [
        f"line {node.lineno}: {ast.unparse(node)}" for node in parallel(tree) if not is_swap(node)
    ]


@pytest.mark.parametrize("module", MODULES)
def test_one_assignment_a_line(module):
    assert stray(TREES[module]) == []


@pytest.mark.parametrize(
    ("line", "is_allowed"),
    [
        ("a, b = b, a", True),
        ("x[i], x[j] = x[j], x[i]", True),
        ("a, b = f()", True),
        ("a, b, c = row", True),
        ("a = 1, 2", True),
        ("for a, b in pairs: pass", True),
        ("a, b = 1, 2", False),
        ("a, b = b, a + b", False),
        ("a, b, c = c, b, a", False),
        ("a, b = a, b", False),
        ("[a, b] = [1, 2]", False),
        ("(a, b), c = f(), 1", False),
        ("a = b, c = 1, 2", False),
        ("def f():\n    if x:\n        a, b = 1, 2", False),
    ],
)
def test_assignments_in_parallel_are_found(line, is_allowed):
    assert (stray(ast.parse(line)) == []) == is_allowed
