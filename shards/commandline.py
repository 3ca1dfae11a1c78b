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
from jsonargparse import ActionYesNo, ArgumentError, ArgumentParser, DefaultHelpFormatter, Namespace, set_loader

from shards.errors import DataError, remedy
from shards.host.streams import leave_stdout, prepare_streams
from shards.pages.spelling import plain
from shards.yaml_files import read_words

__all__ = ["option"]

T = TypeVar("T")
set_loader("words", read_words, (yaml.YAMLError,))
# Where the system refuses something that is no path -> what to do.
LIMITS = {
    errno.EMFILE: "raise the limit of open files with `ulimit -n`",
    errno.ENFILE: "end other programs: the machine has no more open files",
    errno.ENOMEM: "free memory, or raise the limits that `ulimit -v` and the container set",
    errno.EAGAIN: "raise the limit of processes and threads with `ulimit -u`, or ask for fewer",
    errno.ENOENT: "set TMPDIR to a folder that can be written",  # tempfile found none
}


def option(default: Any, help: str, positional: bool = False) -> Any:
    """Declare a dataclass field that is also a flag, or an argument without one."""
    return dataclasses.field(default=default, metadata={"help": help, "positional": positional})


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
    started, module = started_by_tarmac() or prog, prog.removeprefix("python ")
    description, epilog = (text.replace(prog, started) for text in (description, epilog))
    if started != prog:
        epilog = epilog.replace(module, f"-m {started}")  # accelerate launch -m tarmac train
    prog = started
    hints = typing.get_type_hints(config_class)
    fields = [field for field in dataclasses.fields(config_class) if "help" in field.metadata]  # type: ignore[arg-type]
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
        parser.add_argument("--config", action="config", help="YAML file of these options; flags win over it")
    for field in fields:
        if field.metadata["positional"]:
            several = (
                {"nargs": "+", "type": str} if hints[field.name] == tuple[str, ...] else {"type": hints[field.name]}
            )
            parser.add_argument(field.name, help=field.metadata["help"], **several)
            continue
        flag = "--" + field.name.replace("_", "-")
        kind = {"action": ActionYesNo(no_prefix="no-")} if hints[field.name] is bool else {"type": hints[field.name]}
        parser.add_argument(flag, default=field.default, help=field.metadata["help"], **kind)
    try:
        values: Namespace = parser.parse_args(_dashed(argv if argv is not None else sys.argv[1:]))
    except UnicodeDecodeError as error:  # flags have none: they come decoded
        _leave(
            f"--config: {_config_file(argv)} is not UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8",
            2,
        )
    except ArgumentError as error:
        _leave(f"{' '.join(str(error).split())}; {prog} --help lists the options", 2)
    given = {field.name: values[field.name] for field in fields}
    return config_class(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def started_by_tarmac() -> str:
    """Return the command as tarmac.py spells it, such as `tarmac train`; "" under `python -m`."""
    return sys.argv[0] if sys.argv[0].startswith("tarmac ") else ""


def folder(path: str) -> Path:
    """Turn a flag into a path that has a name of its own: `.` and `..` are spelled out, others stay as given."""
    given = Path(path)
    return given if given.name not in ("", "..") else given.resolve()


def joined(argv: Sequence[str], flag: str) -> list[str]:
    """Turn a flag that is given several times into one with commas: `--ckpt a --ckpt b` -> `--ckpt=a,b`.

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
    """Run a command: a user's mistake becomes one line on stderr and exit status 2, Ctrl-C status 130.

    A crash that ends the process at once, such as a disk that fails below a mapped file (SIGBUS), at least tells where.
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
            _leave(f"no space left on the device{where}: free some and run the same command again", 2)
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
    """Say the default of an option behind its help, where there is one; no types of Python's, no word broken."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(indent + line for line in self._split_lines(text, width - len(indent)))

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(" ".join(text.split()), width, break_on_hyphens=False, break_long_words=False)

    def _get_help_string(self, action: argparse.Action) -> str:
        shown = action.help or ""
        says_nothing = action.default in (None, argparse.SUPPRESS, "", (), [])
        return shown if says_nothing or not action.option_strings else f"{shown} (default: %(default)s)"


def _config_file(argv: Sequence[str] | None) -> str:
    """Find the file that --config names."""
    words = list(argv if argv is not None else sys.argv[1:])
    for place, word in enumerate(words):
        name, equals, value = word.partition("=")
        if name == "--config":
            return value if equals else " ".join(words[place + 1 : place + 2])
    return "the file"


def _leave(message: str, status: int) -> typing.NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(status)


def _dashed(argv: Sequence[str]) -> list[str]:
    """Accept `--max_side` for `--max-side`: configuration keys are spelled with underscores."""

    def fix(arg: str) -> str:
        name, equals, value = arg.partition("=")
        return name.replace("_", "-") + equals + value if name.startswith("--") else arg

    return [fix(arg) for arg in argv]
