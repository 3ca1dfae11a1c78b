"""One way from a dataclass to a command line: its fields are the flags, the defaults and the help."""

import argparse
import contextlib
import dataclasses
import errno
import faulthandler
import sys
import textwrap
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import (
    ActionYesNo,
    ArgumentError,
    ArgumentParser,
    DefaultHelpFormatter,
    Namespace,
    set_loader,
)

from shards.errors import DataError, one_line, remedy
from shards.flags.config_values import read_options, typed_options
from shards.flags.refused_options import Refused, near_options
from shards.host.streams import leave_stdout, prepare_streams
from shards.options import Bounds, declared, flag, spelled
from shards.options import option as option  # a source of one's own imports it from here
from shards.pages.spelling import plain
from shards.yaml_files import read_words

__all__ = ["option"]

T = TypeVar("T")
PRINT_CONFIG = "--print_config"
set_loader("words", read_words, (yaml.YAMLError,))
# Where the system refuses something that is no path -> what to do.
LIMITS = {
    errno.EMFILE: "raise the limit of open files with `ulimit -n`",
    errno.ENFILE: "end other programs: the machine has no more open files",
    errno.ENOMEM: "free memory, or raise the limits that `ulimit -v` and the container set",
    errno.EAGAIN: "raise the limit of processes and threads with `ulimit -u`, or ask for fewer",
    errno.ENOENT: "set TMPDIR to a folder that can be written",  # tempfile found none
}


def parse(
    config_class: type[T],
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    description: str,
    epilog: str = "",
    config_file: bool = False,
) -> T:
    """Read flags (`--max-side 500`) and, where `config_file`, `--config file.yaml` under them.

    Leaves with status 2 and one line for an unknown flag, key or value, as argparse does.
    Help shows the command as it was started: `tarmac train` for `python -m train`.
    """
    started = started_by_tarmac() or prog
    module = prog.removeprefix("python ")
    description, epilog = (text.replace(prog, started) for text in (description, epilog))
    if started != prog:
        epilog = epilog.replace(module, f"-m {started}")  # accelerate launch -m tarmac train
    prog = started
    fields = list(declared(config_class))
    arguments = "".join(f" {field.name}" for field in fields if field.metadata["positional"])
    parser = ArgumentParser(
        prog=prog,
        usage=f"{prog} [options]{arguments}",
        description=description,
        epilog=epilog,
        exit_on_error=False,
        formatter_class=_Help,
        parser_mode="words",
    )
    if config_file:
        _add_config_file(parser)
    _add(parser, config_class)
    words = _dashed(argv if argv is not None else sys.argv[1:])
    files = _config_files(words) if config_file else []
    try:
        for file in files:
            _check_file(config_class, file)
        values: Namespace = parser.parse_args(words)
    except DataError as error:
        _leave_with_help(str(error), prog)
    except ArgumentError as error:
        _leave_with_help(
            Refused(config_class, words, "".join(files[:1]), prog).explain(one_line(error)), prog
        )
    given = {field.name: values[field.name] for field in fields}
    return config_class(
        **{
            name: tuple(value) if isinstance(value, list) else value
            for name, value in given.items()
        }
    )


def _add_config_file(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--config", action="config", help="YAML file of these options; flags win over it"
    )
    for action in parser._actions:
        if PRINT_CONFIG in action.option_strings:  # the library's own, and so is its help
            action.help = "print the configuration that the other flags make, and exit"
            action.metavar = "[=skip_default]"


def _add(parser: ArgumentParser, config_class: type) -> None:
    """Add the options of a dataclass, those of each group together under its title."""
    hints = typing.get_type_hints(config_class)
    groups: dict[str, Any] = {"": parser}
    for field in declared(config_class):
        hint = hints[field.name]
        about = _about(field)
        if field.metadata["positional"]:
            several = {"nargs": "+", "type": str} if hint == tuple[str, ...] else {"type": hint}
            parser.add_argument(field.name, help=about, **several)
            continue
        title = field.metadata["group"]
        if title not in groups:
            groups[title] = parser.add_argument_group(title)
        kind = (
            {"action": ActionYesNo(no_prefix="no-")}
            if hint is bool
            else {"type": hint, **_metavar(hint)}
        )
        groups[title].add_argument(flag(field.name), default=field.default, help=about, **kind)


def _about(field: "dataclasses.Field[Any]") -> str:
    """Write the help of an option: when it applies, what it does, its default and the numbers that
    it takes.
    """
    about, only_with, bounds = (field.metadata[name] for name in ("help", "only_with", "bounds"))
    if only_with:
        about = f"with {flag(only_with[0])} {only_with[1]}: {about}"
    if field.metadata["positional"]:
        return str(about)
    notes = [] if field.default in (None, "", ()) else [f"default: {_default(field.default)}"]
    if bounds not in (Bounds(), Bounds(ge=0)):  # 0 or more goes without saying
        notes.append(bounds.spelled())
    return f"{about} ({'; '.join(notes)})" if notes else str(about)


def _default(value: Any) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else spelled(value)


def _metavar(hint: Any) -> dict[str, str]:
    """Name numbers by one letter: `--global-batch-size N` instead of the flag's name twice."""
    if typing.get_origin(hint) is tuple:
        return {"metavar": "[X,...]"}
    kinds = set(typing.get_args(hint) or (hint,)) - {type(None)}
    letter = "N" if kinds == {int} else "X" if kinds == {float} else ""
    return {"metavar": letter} if letter else {}


def started_by_tarmac() -> str:
    """Return the command as tarmac.py spells it, such as `tarmac train`; "" under `python -m`."""
    return sys.argv[0] if sys.argv[0].startswith("tarmac ") else ""


def folder(path: str) -> Path:
    """Turn a flag into a path that has a name of its own: `.` and `..` are spelled out, others stay
    as given.
    """
    given = Path(path)
    return given if given.name not in ("", "..") else given.resolve()


def joined(argv: Sequence[str], flag: str) -> list[str]:
    """Turn a flag that is given several times into one with commas: `--ckpt a --ckpt b` ->
    `--ckpt=a,b`.

    Parsers take the last one and say nothing.
    """
    values: list[str] = []
    rest: list[str] = []
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        if name != flag:
            rest.append(word)
            continue
        given = value if equals else next(words, None)
        if given is None or (not equals and given.startswith("--")):
            return list(argv)  # no value: the parser says so
        values.append(given)
    return [*rest, f"{flag}={','.join(values)}"] if values else rest


def run(main: Callable[[], None]) -> None:
    """Run a command: a user's mistake becomes one line on stderr and exit status 2, Ctrl-C status
    130.

    A crash that ends the process at once, such as a disk that fails below a mapped file (SIGBUS),
    at least tells where.
    """
    prepare_streams()
    with contextlib.suppress(OSError, ValueError):  # a standard error that is no file
        faulthandler.enable()
    try:
        main()
        sys.stdout.flush()
    except DataError as error:
        _leave(str(error), 2)
    except BrokenPipeError:  # whoever read our output, such as `head`, has gone
        leave_stdout()
        raise SystemExit(141) from None
    except OSError as error:
        leave_stdout()
        if error.errno == errno.ENOSPC:
            where = f" while writing {plain(str(error.filename))}" if error.filename else ""
            _leave(
                f"no space left on the device{where}: free some and run the same command again", 2
            )
        if error.filename is None:
            if error.errno not in LIMITS:
                raise
            _leave(f"{error.strerror}; {LIMITS[error.errno]}", 2)
        _leave(f"{plain(str(error.filename))}: {error.strerror}; {remedy(error)}", 2)
    except MemoryError:
        _leave(f"out of memory; {LIMITS[errno.ENOMEM]}", 2)
    except RuntimeError as error:
        if str(error) != "can't start new thread":
            raise
        _leave(f"{error}; {LIMITS[errno.EAGAIN]}", 2)
    except KeyboardInterrupt:
        _leave("interrupted", 130)


class _Help(DefaultHelpFormatter):
    """Show help as we wrote it: no types of Python's, no word broken."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in self._split_lines(text, width - len(indent)))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(
            " ".join(text.split()), width, break_on_hyphens=False, break_long_words=False
        )

    def _get_help_string(self, action: argparse.Action) -> str:
        return action.help or ""  # the default is already there, see `_about`


def _config_files(words: Sequence[str]) -> list[str]:
    """Find the files that --config names, also where it is shortened."""
    files: list[str] = []
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if "--config".startswith(name) and len(name) >= len("--con"):
            files += [value] if equals else words[place + 1 : place + 2]
    return files


def _check_file(config_class: type, file: str) -> None:
    """Raise DataError for a key or a value of a configuration file that is no option's."""
    path = Path(file)
    if not path.is_file():
        return  # the parser says so, or it is a pipe, which can be read once
    values = read_options(path)
    names = [field.name for field in declared(config_class) if not field.metadata["positional"]]
    for key in values:
        if key not in names:
            raise DataError(f"{file}: no option {plain(str(key))}{near_options(str(key), names)}")
    typed_options(config_class, values, file)


def _leave_with_help(said: str, prog: str) -> typing.NoReturn:
    _leave(f"{said}{'' if said.endswith('?') else ';'} {prog} --help lists the options", 2)


def _leave(message: str, status: int) -> typing.NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(status)


def _dashed(argv: Sequence[str]) -> list[str]:
    """Accept `--max_side` for `--max-side`: configuration keys are spelled with underscores."""

    def fix(arg: str) -> str:
        name, equals, value = arg.partition("=")
        dashed = name.replace("_", "-")
        if dashed == PRINT_CONFIG.replace("_", "-"):
            return PRINT_CONFIG + equals + value  # the library's own
        return dashed + equals + value if name.startswith("--") else arg

    return [fix(arg) for arg in argv]
