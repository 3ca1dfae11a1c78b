"""The figures of the house: lengths of files and functions, widths of lines, repeated names,
parallel assignments.

    python benchmarks/house_figures.py [ROOT ...]

prints one markdown table with a column for each tree. tests/test_house.py holds what has to stay
so.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

PACKAGES = ("shards", "preprocess", "eval", "train")
Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules(root: Path) -> dict[str, str]:
    """Read every module of the four packages: path within the tree -> text."""
    paths = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    return {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def public_names(tree: ast.Module) -> Iterator[str]:
    """Name the public classes and functions at the top of a module."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | Function) and not node.name.startswith("_"):
            yield node.name


def declared(tree: ast.Module) -> list[str] | None:
    """Return a module's __all__, or None where it has none."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and any(
            isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets
        ):
            return [str(name) for name in ast.literal_eval(node.value)]
    return None


def parallel(tree: ast.Module) -> Iterator[ast.Assign]:
    """Find the assignments of a written tuple to a tuple of names: `a, b = 1, 2`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple | ast.List):
            continue
        if any(isinstance(target, ast.Tuple | ast.List) for target in node.targets):
            yield node


def is_swap(node: ast.Assign) -> bool:
    """Tell a swap: two places, and the same two in the other order."""
    target = node.targets[0]
    if (
        len(node.targets) > 1
        or not isinstance(target, ast.Tuple)
        or not isinstance(node.value, ast.Tuple)
    ):
        return False
    there, here = ([ast.unparse(element) for element in side.elts] for side in (target, node.value))
    return len(there) == 2 and there == here[::-1]


def repeated(names_of: dict[str, list[str]]) -> dict[str, list[str]]:
    """Find the names that several modules have."""
    homes = defaultdict(list)
    for path, names in names_of.items():
        for name in names:
            homes[name].append(path)
    return {
        name: paths for name, paths in sorted(homes.items()) if len(paths) > 1 and name != "main"
    }


def is_typed(node: Function) -> bool:
    """Tell whether every parameter and the result of a function have a type."""
    given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    own = [argument for argument in given if argument.arg not in ("self", "cls")]
    return node.returns is not None and all(argument.annotation is not None for argument in own)


def spread(values: list[int], *shares: float) -> str:
    """Spell percentiles and the maximum."""
    return " / ".join(f"{value:.0f}" for value in [*np.percentile(values, shares), max(values)])


def figures(root: Path) -> dict[str, str]:
    """Measure one tree."""
    sources = modules(root)
    trees = {path: ast.parse(text) for path, text in sources.items()}
    lines = [line for text in sources.values() for line in text.splitlines()]
    functions = [
        node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, Function)
    ]
    names = {path: list(public_names(tree)) for path, tree in trees.items()}
    pairs = [node for tree in trees.values() for node in parallel(tree)]
    files = {path: [path.rsplit("/")[-1].removesuffix(".py")] for path in sources}
    twice = {
        name: paths
        for name, paths in repeated(files).items()
        if name not in ("__init__", "__main__", "config")
    }
    faces = [name for tree in trees.values() for name in declared(tree) or []]
    return {
        "files; lines": f"{len(sources)}; {len(lines)}",
        "file length, median / p95 / max": spread(
            [len(text.splitlines()) for text in sources.values()], 50, 95
        ),
        "function length, p50 / p95 / max": spread(
            [node.end_lineno - node.lineno + 1 for node in functions], 50, 95
        ),
        "mean characters a line": f"{np.mean([len(line) for line in lines]):.1f}",
        "lines over 100": f"{100 * np.mean([len(line) > 100 for line in lines]):.1f}%",
        "typed functions": f"{100 * np.mean([is_typed(node) for node in functions]):.1f}%",
        "classes and functions without an underscore": str(sum(map(len, names.values()))),
        "names in `__all__`": str(len(faces)),
        "names of several modules": str(len(repeated(names))),
        "base names of several modules": str(len(twice)),
        "parallel assignments per 1,000 lines": f"{1000 * len(pairs) / len(lines):.1f}",
        "of them no swaps": str(sum(not is_swap(node) for node in pairs)),
    }


def main() -> None:
    """Print the table."""
    roots = [Path(argument) for argument in sys.argv[1:]] or [Path(__file__).parents[1]]
    columns = [figures(root) for root in roots]
    print("| |", *(f"{root} |" for root in roots))
    print("| --- |", *("--- |" for _ in roots))
    for row in columns[0]:
        print(f"| {row} |", *(f"{column[row]} |" for column in columns))


if __name__ == "__main__":
    main()
