"""The registry of sources: find one by name, or a user's own by `module:Class`, with its flags."""

import argparse
import contextlib
import dataclasses
import importlib
import inspect
import os
import sys
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from preprocess.reading.normal_names import with_normal_names
from preprocess.record import Source
from shards.errors import DataError, one_line
from shards.options import flag, grouped
from shards.pages.spelling import is_text

SOURCES = {  # imported only when asked for: some need libraries that are slow to load
    "cifar10": "preprocess.sources.cifar10:Cifar10",
    "coco": "preprocess.sources.coco:COCO",
    "csv": "preprocess.sources.csvtable:CSV",
    "digits": "preprocess.sources.digits:Digits",
    "hf": "preprocess.sources.hf:HF",
    "imagefolder": "preprocess.sources.imagefolder:ImageFolder",
    "openimages": "preprocess.sources.open_images:OpenImages",
    "planet": "preprocess.sources.planet:Planet",
    "voc": "preprocess.sources.voc:VOC",
    "webdataset": "preprocess.sources.webdataset:WebDataset",
    "yolo": "preprocess.sources.yolo:YOLO",
}

T = TypeVar("T")


def find_source(name: str) -> type[Source]:
    """Return the class of a built-in source, or of a user's own, `module:Class`. Raises DataError."""
    address = SOURCES.get(name, name)
    module_name, _, class_name = address.rpartition(":")
    if not (module_name and class_name):
        raise DataError(
            f"--source {name} is unknown; choose one of {', '.join(SOURCES)}, or give your own as "
            f"module:Class"
        )
    if module_name.endswith(".py") or not all(
        part.isidentifier() for part in module_name.split(".")
    ):
        raise DataError(
            f"--source {name}: {module_name!r} is no name of a module; run from the folder that "
            f"holds it and give {Path(module_name).stem}:{class_name}"
        )
    if name not in SOURCES:
        _look_in_the_working_folder()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            # the module is there, but imports another one that is not: its author needs the
            # traceback
            raise
        raise DataError(
            f"--source {name}: no module {error.name!r}; run from the folder that holds it, or set "
            f"PYTHONPATH"
        ) from None
    return _checked(getattr(module, class_name, None), name, module)


def _look_in_the_working_folder() -> None:
    """Let a module be imported from there, behind all that is installed.

    It stays in sys.path: worker processes take that over, and are sent objects of the module.
    """
    with contextlib.suppress(FileNotFoundError):  # the folder has been removed
        if not {"", os.getcwd()} & set(sys.path):
            sys.path.append(os.getcwd())


def about(source_class: type[Source]) -> str:
    """Take the first paragraph of a source's docstring, for its help."""
    own = source_class.__doc__ or ""
    made = own.startswith(f"{source_class.__name__}(")  # by `dataclass`, of the names of the fields
    return "" if made else " ".join(inspect.cleandoc(own).partition("\n\n")[0].split())


def options(source_class: type[Source]) -> dict[str, dataclasses.Field[Any]]:
    """List the fields of a source's dataclass that are flags; none where it is no dataclass."""
    if not dataclasses.is_dataclass(source_class):
        return {}
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(source_class)
    return {field.name: field for field in fields if "help" in field.metadata}


def with_options(config_class: type[T], source_class: type[Source]) -> type[T]:
    """Extend a dataclass of flags by those of a source. Raises DataError where both have one of the
    same name.
    """
    hints = typing.get_type_hints(source_class)
    taken = {field.name for field in dataclasses.fields(config_class)}  # type: ignore[arg-type]
    added: list[tuple[str, Any, Any]] = []
    for name, field in options(source_class).items():
        if name in taken:
            raise DataError(
                f"{source_class.__name__}.{name}: the packer itself has a flag of this name; "
                f"rename it"
            )
        added.append((name, hints[name], grouped(field, "this source")))
    return dataclasses.make_dataclass(
        config_class.__name__, added, bases=(config_class,), frozen=True
    )


def named_source(argv: Sequence[str], default: str) -> str:
    """Look up `--source` alone: which other flags there are depends on it."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--source", nargs="?", default=default)
    return parser.parse_known_args(argv)[0].source or default


def given_flags(argv: Sequence[str]) -> set[str]:
    """Name the options that a command line gives, also with their default."""
    return {
        arg.partition("=")[0].removeprefix("--").replace("-", "_")
        for arg in argv
        if arg.startswith("--")
    }


def refuse_foreign_flags(argv: Sequence[str], config_class: type) -> None:
    """Raise DataError for a flag that only other sources have: it would do nothing here."""
    known = {"help", *(field.name for field in dataclasses.fields(config_class))}
    # of all sources, which takes half a second of imports
    for name in sorted(given_flags(argv) - known):
        owners = [source for source in SOURCES if name in options(find_source(source))]
        if owners:
            raise DataError(
                f"{flag(name)} is a flag of --source {' or '.join(owners)}, not of the one chosen "
                f"here; leave it out"
            )


def open_source(
    name: str, source_class: type[Source], root: Path | None, values: dict[str, Any]
) -> Source:
    """Construct a source over `root` with its options. Raises DataError where the class does not
    fit.
    """
    if root is None:
        raise DataError(f"--source {name} needs --root, {source_class.root_holds}")
    try:
        inspect.signature(source_class).bind(root, **values)
    except TypeError as error:
        raise DataError(
            f"--source {name}: {source_class.__name__}(root, ...) cannot be made "
            f"({one_line(error)})"
        ) from None
    source = source_class(root, **values)  # type: ignore[call-arg]
    names = getattr(source, "class_names", None)
    if (
        not isinstance(names, tuple)
        or not names
        or not all(isinstance(n, str) and n for n in names)
    ):
        raise DataError(
            f"--source {name}: class_names is {names!r}; set it to a tuple of the classes' names"
        )
    if len(set(names)) < len(names):
        raise DataError(
            f"--source {name}: class_names holds {_first_repeated(names)!r} twice; name each class "
            f"once"
        )
    odd = next((name for name in names if not is_text(name)), None)
    if odd is not None:
        raise DataError(
            f"--source {name}: class {odd!r} is no UTF-8, reports and tables cannot name it; "
            f"rename it, or its folder"
        )
    return with_normal_names(source)


def _checked(found: Any, name: str, module: Any) -> type[Source]:
    if not (isinstance(found, type) and issubclass(found, Source)):
        there = [
            n
            for n, c in vars(module).items()
            if isinstance(c, type) and issubclass(c, Source) and c is not Source
        ]
        hint = f"it has {', '.join(there)}" if there else "it has none"
        raise DataError(
            f"--source {name}: not a class that extends preprocess.record.Source; {hint}"
        )
    if inspect.isabstract(found):
        missing = ", ".join(sorted(found.__abstractmethods__))
        raise DataError(
            f"--source {name}: {found.__name__} lacks {missing}; define what "
            f"preprocess.record.Source asks"
        )
    return found


def _first_repeated(names: tuple[str, ...]) -> str:
    return next(name for name in names if names.count(name) > 1)
