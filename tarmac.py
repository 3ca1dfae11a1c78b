"""All commands under one name: `tarmac pack`, `tarmac train`, `tarmac eval` and so on.

`tarmac train` takes the options of `python -m train` and does the same. It also works in a folder
that has a train.py or an eval/ of the user's own, which `python -m train` would run. Nobody imports
this module, so it may name all.
"""

import contextlib
import difflib
import importlib
import os
import sys
from importlib.machinery import PathFinder
from importlib.metadata import PackageNotFoundError, version
from typing import NamedTuple

PACKAGES = ("shards", "preprocess", "eval", "train")


class Command(NamedTuple):
    """Where its main() is, and what it does."""

    module: str
    does: str


COMMANDS = {
    "pack": Command("preprocess.shard", "pack a source of labelled photographs into tar shards"),
    "verify": Command("preprocess.verify", "check every byte of a packed dataset, and repair it"),
    "upgrade": Command(
        "preprocess.upgrade", "rewrite the metadata of a packed dataset as format 2"
    ),
    "inspect": Command(
        "preprocess.inspect", "show what a packed dataset holds and what deserves attention"
    ),
    "train": Command("train.__main__", "train a classifier on a packed dataset"),
    "eval": Command("eval.__main__", "evaluate a checkpoint and write a report"),
    "predict": Command("eval.predict", "print the labels of pictures"),
    "export": Command("train.export", "write a model as ONNX, TorchScript or timm weights"),
    "bench": Command("shards.bench", "measure how fast a packed dataset is read here"),
}


def main() -> None:
    """Run the command that the first argument names, with the arguments after it."""
    own_packages_first()
    from shards.commandline import run

    run(_command)


def _command() -> None:
    from shards.errors import DataError

    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("--help", "-h", "help"):
        print(_help())
    elif name in ("--version", "-V"):
        print(f"tarmac {_version()}")
    elif name in COMMANDS:
        sys.argv = [f"tarmac {name}", *arguments]  # help and ranks read it
        importlib.import_module(COMMANDS[name].module).main()
    else:
        near = difflib.get_close_matches(name, COMMANDS, n=1) or COMMANDS
        raise DataError(
            f"unknown command {name!r}: give {' or '.join(near)}; `tarmac --help` says what each "
            f"does"
        )


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {name:{width}}  {command.does}" for name, command in COMMANDS.items()]
    return "\n".join(
        [
            "usage: tarmac COMMAND [options]",
            "",
            *lines,
            "",
            "`tarmac COMMAND --help` lists the options. On several GPUs: `accelerate launch -m "
            "tarmac train`.",
        ]
    )


def _version() -> str:
    try:
        return version("tarmac-vision")
    except PackageNotFoundError:
        return "from a folder that is not installed"


def own_packages_first() -> None:
    """Let imports find our packages before a train.py or an eval/ of the user's.

    `python -m` puts the working folder first in sys.path, and PYTHONPATH whatever it names. Folders
    with such a module go behind ours. Worker processes take sys.path over. Ours does not go to the
    front: modules that are installed would hide Python's own.
    """
    root = os.path.dirname(os.path.abspath(__file__))
    place = next(
        (number for number, entry in enumerate(sys.path) if _is_same(entry, root)), len(sys.path)
    )
    hiding = [entry for entry in sys.path[:place] if _hides_ours(entry)]
    if hiding:
        kept = [entry for entry in sys.path[:place] if entry not in hiding]
        sys.path[:] = [*kept, *(sys.path[place:] or [root]), *hiding]


def _is_same(entry: str, folder: str) -> bool:
    with contextlib.suppress(OSError):  # of an entry that is not there
        return os.path.samefile(entry or os.curdir, folder)
    return False


def _hides_ours(entry: str) -> bool:
    """Tell whether there is a module of the name of a package of ours; a folder of data is none."""
    found = [PathFinder.find_spec(name, [entry]) for name in PACKAGES]
    return any(spec is not None and spec.origin is not None for spec in found)


if __name__ == "__main__":
    main()
