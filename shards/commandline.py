"""One way from a dataclass to a command line: its fields are the flags, the defaults and the help."""

import dataclasses
import errno
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from jsonargparse import ActionYesNo, ArgumentParser, Namespace

from shards.errors import DataError

T = TypeVar("T")


def option(default: Any, help: str) -> Any:
    """Declare a dataclass field that is also a flag."""
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata={"help": help})
    return dataclasses.field(default=default, metadata={"help": help})


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
    """
    parser = ArgumentParser(prog=prog, description=description, epilog=epilog, exit_on_error=True)
    if config_file:
        parser.add_argument("--config", action="config", help="YAML file of these options; flags win over it")
    hints = typing.get_type_hints(config_class)
    names = [f.name for f in dataclasses.fields(config_class)]  # type: ignore[arg-type]
    for field in dataclasses.fields(config_class):  # type: ignore[arg-type]
        if "help" not in field.metadata:
            names.remove(field.name)
            continue
        default = field.default if field.default is not dataclasses.MISSING else field.default_factory()  # type: ignore[misc]
        flag = "--" + field.name.replace("_", "-")
        kind = {"action": ActionYesNo} if hints[field.name] is bool else {"type": hints[field.name]}
        parser.add_argument(flag, default=default, help=field.metadata["help"], **kind)
    values: Namespace = parser.parse_args(_dashed(argv if argv is not None else sys.argv[1:]))
    return config_class(**{name: values[name] for name in names})


def run(main: Callable[[], None]) -> None:
    """Run a command: a user's mistake becomes one line on stderr and exit status 2, Ctrl-C status 130."""
    try:
        main()
    except DataError as error:
        _leave(str(error), 2)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            _leave(f"no space left on the device while writing {error.filename}: free some and run again", 2)
        if error.filename is None:
            raise
        _leave(f"{error.strerror}: {error.filename}", 2)
    except KeyboardInterrupt:
        _leave("interrupted", 130)


def _leave(message: str, status: int) -> typing.NoReturn:
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(status)


def _dashed(argv: Sequence[str]) -> list[str]:
    """Accept `--max_side` for `--max-side`: configuration keys are spelled with underscores."""

    def fix(arg: str) -> str:
        name, equals, value = arg.partition("=")
        return name.replace("_", "-") + equals + value if name.startswith("--") else arg

    return [fix(arg) for arg in argv]
