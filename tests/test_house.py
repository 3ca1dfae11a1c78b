"""The house rules that a reader relies on: who imports whom, how large a room is, what runs without
torch.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("shards", "preprocess", "eval", "train")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
} | {"tarmac": ROOT / "tarmac.py"}

# Room, or module at a package's root -> the rooms and modules that it may import, besides itself. A
# package's own name is its root: the modules beside its rooms. `pkg.*` is all of a package.
MAY_IMPORT = {
    "shards.host": {"shards.errors"},
    "shards.disk": {"shards.errors"},
    "shards.tiles": {"shards.disk", "shards.host"},
    "shards.scans": {"shards.disk", "shards.host", "shards.errors"},
    "shards.augment": {"shards.host", "shards.index", "shards.choices", "shards.errors"},
    "shards.decode": {
        "shards.tiles",
        "shards.scans",
        "shards.disk",
        "shards.augment",
        "shards.host",
        "shards.errors",
    },
    "shards.pipeline": {
        "shards.decode",
        "shards.augment",
        "shards.disk",
        "shards.host",
        "shards.index",
        "shards.sampler",
        "shards.remote.early_images",
        "shards.remote.future",
        "shards.choices",
        "shards.errors",
    },
    "shards.order": {"shards.augment", "shards.host", "shards.index", "shards.errors"},
    "shards.flags": {"shards.options", "shards.yaml_files", "shards.pages", "shards.errors"},
    "shards.pages": set(),
    "shards.remote": {"shards.disk", "shards.host", "shards.index", "shards.errors"},
    "shards.measuring": {"shards.*"},
    "shards": {"shards.*"},
    "preprocess.jpeg": {"shards.disk", "shards.tiles", "shards.scans", "shards.host"},
    "preprocess.images": {
        "preprocess.jpeg",
        "shards.disk",
        "shards.tiles",
        "shards.scans",
        "shards.host",
        "shards.errors",
    },
    "preprocess.record": {"preprocess.images", "shards"},
    "preprocess.reading": {"preprocess.record", "preprocess.images", "shards.host", "shards"},
    "preprocess.sources": {
        "preprocess.reading",
        "preprocess.record",
        "preprocess.images",
        "shards.host",
        "shards.pages",
        "shards",
    },
    "preprocess.packing": {
        "preprocess.record",
        "preprocess.images",
        "preprocess.jpeg",
        "shards.disk",
        "shards.remote",
        "shards.order",
        "shards.decode",
        "shards.host",
        "shards",
    },
    "preprocess.verifying": {
        "preprocess.packing",
        "preprocess.images",
        "preprocess.sources.foreign_tar",
        "shards.remote",
        "shards.disk",
        "shards.decode",
        "shards",
    },
    "preprocess.upgrading": {
        "preprocess.packing",
        "shards.disk",
        "shards",
    },
    "preprocess.inspecting": {"shards.*"},
    "preprocess": {"preprocess.*", "shards.*"},
    "eval.metrics": set(),
    "eval.ranking": {"eval.metrics"},
    "eval.distributed": {"eval.metrics"},
    "eval.prediction": {"shards.*"},
    "eval.results": {"eval.metrics", "eval.prediction", "shards.pages", "shards.disk", "shards"},
    "eval.report": {
        "eval.results",
        "eval.metrics",
        "eval.prediction",
        "eval.ranking",
        "shards.pages",
        "shards",
    },
    "eval.config": {"eval.results", "shards"},
    "eval.__main__": {"eval.config", "eval.evaluation", "train.run", "shards.host", "shards"},
    "eval.request": {"eval.config", "eval.report", "eval.results", "train.run", "shards"},
    "eval.evaluation": {"shards.*", "eval.*", "train.*"},
    "eval.predict": {
        "eval.config",
        "eval.predict_pictures",
        "shards.remote.address",
        "shards.host",
        "shards",
    },
    "eval.predict_pictures": {"shards.*", "eval.*", "train.*", "preprocess.images"},
    "eval": set(),
    "train.combinations": {"shards.pages", "shards.errors"},
    "train.by_epoch": {"shards.errors"},
    "train.config": {
        "train.combinations",
        "train.config_file",
        "train.by_epoch",
        "shards",
    },
    "train.config_file": {"train.combinations", "shards.flags", "shards"},
    "train.checks": {"train.config", "shards.pages", "shards"},
    "train.data": {"train.config", "shards"},
    "train.optimise": {"train.config", "shards.*"},
    "train.run": {
        "train.optimise",
        "train.config",
        "eval.prediction",
        "eval.metrics",
        "eval.distributed",
        "shards.*",
    },
    "train.network": {"train.run", "train.config", "train.by_epoch", "eval.prediction", "shards.*"},
    "train.loop": {
        "train.data",
        "train.network",
        "train.optimise",
        "train.run",
        "train.config",
        "eval.prediction",
        "shards.*",
    },
    "train.sweep": {
        "train.loop",
        "train.run",
        "train.config",
        "train.checks",
        "shards.flags",
        "shards.pages",
        "shards.disk",
        "shards",
    },
    "train": {"train.*", "shards.*"},
    "tarmac": {"shards.commandline", "shards.errors"},
}
# Where everything comes together -> who alone may import it; that a command imports nothing else of
# the kind keeps its --help fast.
COMPOSITION_ROOTS = {
    "eval.evaluation": "eval.__main__",
    "eval.predict_pictures": "eval.predict",
    "eval.__main__": "",
    "train.__main__": "",
    "tarmac": "",
}
KNOW_ACCELERATE = {"train.run.ranks"}


def room_of(module: str) -> str:
    """Name the row of MAY_IMPORT that a module belongs to."""
    parts = module.split(".")
    room = ".".join(parts[:2])
    return room if room in MAY_IMPORT else parts[0]


def imported(source: str, where: str = "") -> Iterator[str]:
    """Name what a module's code imports, at any depth: `from a import b` is a.b where that is a
    module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{where}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else str(node.module)


def is_allowed(module: str, target: str) -> bool:
    """Tell whether `module` may import `target`; what is none of our packages is not asked here."""
    package = target.split(".")[0]
    if target in COMPOSITION_ROOTS:
        return COMPOSITION_ROOTS[target] == module
    if package not in PACKAGES:
        return True
    room, there = room_of(module), room_of(target)
    allowed = MAY_IMPORT[room]
    if there == room or f"{package}.*" in allowed or there in allowed or target in allowed:
        return True
    is_root = len(target.split(".")) == 2 and MODULES[target].name != "__init__.py"
    return package in allowed and is_root


def test_the_table_sees_the_whole_tree():
    assert len(MODULES) > 150
    rooms = {room_of(module) for module in MODULES}
    assert rooms == set(MAY_IMPORT), rooms.symmetric_difference(MAY_IMPORT)


@pytest.mark.parametrize("module", MODULES)
def test_imports_follow_the_table(module):
    targets = list(imported(MODULES[module].read_text(encoding="utf-8"), module))
    assert [target for target in targets if not is_allowed(module, target)] == []
    if "accelerate" in {target.split(".")[0] for target in targets}:
        assert module in KNOW_ACCELERATE


# One import that each row must refuse, beside those that no package may make.
VIOLATIONS = {
    "shards.host.machine": "shards.index",
    "shards.disk.writer": "shards.index",
    "shards.scans.damage": "shards.decode.decoder",
    "shards.measuring.stages": "preprocess.record",
    "tarmac": "train.loop",
    "shards.tiles.cut": "shards.decode.decoder",
    "shards.augment.crops": "shards.pipeline.batch",
    "shards.decode.decoder": "shards.pipeline.reader",
    "shards.pipeline.reader": "shards.loader",
    "shards.order.near_order": "shards.sampler",
    "shards.flags.refused_options": "shards.commandline",
    "shards.pages.html": "shards.index",
    "shards.loader": "eval.metrics",
    "shards.remote.opening": "shards.loader",
    "preprocess.jpeg.retile": "preprocess.images.image",
    "preprocess.images.image": "preprocess.record",
    "preprocess.record": "preprocess.packing.pack",
    "preprocess.reading.paths": "preprocess.sources.voc",
    "preprocess.sources.voc": "preprocess.packing.pack",
    "preprocess.packing.pack": "preprocess.sources.webdataset",
    "preprocess.verifying.repair": "preprocess.sources.voc",
    "preprocess.upgrading.upgrade_split": "preprocess.verifying.repair",
    "preprocess.inspecting.inspection": "preprocess.packing.pack",
    "preprocess.shard": "eval.ranking",
    "eval.metrics.curve": "shards.errors",
    "eval.ranking": "eval.prediction.predictions",
    "eval.distributed": "eval.results.measure",
    "eval.prediction.ensemble": "eval.metrics.curve",
    "eval.results.measure": "eval.report.report",
    "eval.report.report": "shards.pipeline.batch",
    "eval.config": "eval.report.report",
    "eval.__main__": "eval.predict_pictures",
    "eval.request": "eval.evaluation",
    "eval.evaluation": "preprocess.images.image",
    "eval.predict": "eval.evaluation",
    "eval.predict_pictures": "preprocess.packing.pack",
    "eval": "shards.index",
    "train.by_epoch": "train.config",
    "train.combinations": "train.config",
    "train.config_file": "train.config",
    "train.config": "train.run.checkpoint",
    "train.checks": "train.loop",
    "train.data": "train.run.checkpoint",
    "train.optimise.step": "train.run.checkpoint",
    "train.run.checkpoint": "train.network.model",
    "train.network.model": "train.optimise.loss",
    "train.loop": "train.sweep.sweep",
    "train.sweep.sweep": "train.network.model",
    "train.export": "preprocess.record",
}


@pytest.mark.parametrize("module", VIOLATIONS)
def test_a_violation_of_each_row_is_found(module):
    target = VIOLATIONS[module]
    package, _, name = target.rpartition(".")
    sources = [
        f"import {target}",
        f"def f():\n    from {target} import x",
        f"from {package or target} import {name}",
    ]
    for source in sources:
        assert {room_of(found) for found in imported(source)} == {room_of(target)}
        assert not all(is_allowed(module, found) for found in imported(source))
    assert not is_allowed(module, "tarmac")


def test_each_row_has_a_violation():
    assert {room_of(module) for module in VIOLATIONS} == set(MAY_IMPORT)
    assert set(VIOLATIONS) | set(VIOLATIONS.values()) <= set(MODULES)


def test_no_room_leads_back_to_itself():
    edges: dict[str, set[str]] = {room: set() for room in MAY_IMPORT}
    for module, path in MODULES.items():
        if module in COMPOSITION_ROOTS or len(module.split(".")) < 3:
            continue  # root modules of a package are many rooms in one row
        for target in imported(path.read_text(encoding="utf-8")):
            if target.split(".")[0] in PACKAGES and room_of(target) != room_of(module):
                edges[room_of(module)].add(room_of(target))
    done: set[str] = set()

    def visit(room: str, way: tuple[str, ...]) -> None:
        assert room not in way, " -> ".join((*way, room))
        if room not in done:
            for there in sorted(edges[room]):
                visit(there, (*way, room))
            done.add(room)

    for room in edges:
        visit(room, ())


@pytest.mark.parametrize("package", PACKAGES)
def test_the_root_of_a_package_is_small(package):
    assert len(list((ROOT / package).glob("*.py"))) <= 12


@pytest.mark.parametrize("path", MODULES.values(), ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_two_rooms(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 400


def test_packing_needs_no_torch():
    modules = [
        "shards.disk.writer",
        "shards.index",
        *(name for name in MODULES if name.startswith("preprocess.")),
    ]
    script = "import sys, importlib\n" + "".join(
        f"importlib.import_module({name!r})\n" for name in modules
    )
    script += "sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=120)


COMMANDS = [
    "preprocess.shard",
    "preprocess.verify",
    "preprocess.upgrade",
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
    print("imported:", *({{"torch", "numba", "timm", "torchvision", "accelerate", "matplotlib"}} & set(sys.modules)))
"""


@pytest.mark.parametrize("module", COMMANDS)
def test_help_waits_for_no_library_that_takes_seconds_to_import(module):
    script = HELP.format(module=module)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")
    assert done.stdout.splitlines()[-1].strip() == "imported:"
