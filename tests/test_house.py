"""The house rules that a reader relies on: who imports whom, and what runs without torch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "shards": {"shards"},
    "preprocess": {"preprocess", "shards"},
    "eval": {"eval", "shards"},
    "train": {"train", "eval", "shards"},
}
FILES = [*sorted(path for room in MAY_IMPORT for path in (ROOT / room).glob("*.py")), ROOT / "tarmac.py"]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_imports_run_one_way(path):
    assert "tarmac" not in imported(path)  # it names all commands, so nobody imports it
    room = "shards" if path.name == "tarmac.py" else path.parent.name  # what it imports before it knows the command
    allowed = set(MAY_IMPORT[room])
    if (room, path.name) in {("eval", "evaluation.py"), ("eval", "predict_pictures.py")}:
        allowed.add("train")  # composition roots: nobody imports them but their commands
    if (room, path.name) == ("eval", "predict_pictures.py"):
        allowed.add("preprocess")  # pictures that no packer has decoded
    assert imported(path) & set(MAY_IMPORT) <= allowed
    if "accelerate" in imported(path):
        assert (room, path.name) in {("train", "loop.py"), ("train", "ranks.py"), ("eval", "evaluation.py")}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_no_file_is_two_rooms(path):
    assert len(path.read_text().splitlines()) <= 400


def test_packing_needs_no_torch():
    modules = [
        "shards.writer",
        "shards.index",
        *(f"preprocess.{p.stem}" for p in (ROOT / "preprocess").glob("[a-z]*.py")),
    ]
    script = "import sys, importlib\n" + "".join(f"importlib.import_module({name!r})\n" for name in modules)
    script += "sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=60)


COMMANDS = [
    "preprocess.shard",
    "preprocess.verify",
    "preprocess.inspect",
    "shards.bench",
    "train",
    "train.export",
    "eval",
    "eval.predict",
]
HELP = """
import runpy, sys
sys.argv = [{module!r}, "--help"]
try:
    runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
finally:
    print("imported:", *({{"torch", "timm", "torchvision", "accelerate", "matplotlib"}} & set(sys.modules)))
"""


@pytest.mark.parametrize("module", COMMANDS)
def test_help_waits_for_no_library_that_takes_seconds_to_import(module):
    script = HELP.format(module=module)
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
    assert done.stdout.splitlines()[-1].strip() == "imported:"
