"""What the parser refuses, as one line of plain words: the option or its file, the value, the
remedy.
"""

import dataclasses
import difflib
import re
import shlex
import typing
from collections.abc import Sequence
from typing import Any

from shards.flags.config_values import value_kind
from shards.options import declared, flag

ALIASES = {  # how other trainers call it
    "--learning-rate": "--lr",
    "--output": "--out",
    "--output-dir": "--out",
    "--out-dir": "--out",
    "--dataset": "--data",
    "--checkpoint": "--ckpt",
    "--image-size": "--size",
    "--img-size": "--size",
    "--workers": "--num-threads",
    "--num-workers": "--num-threads",
    "--wd": "--weight-decay",
}
MAIN = ("ckpt", "root", "data")  # what an argument without a flag was most likely meant to be


@dataclasses.dataclass(frozen=True)
class Refused:
    """A command line that was refused, and the options that it could have had."""

    config_class: type
    argv: Sequence[str]  # with dashes in its flags
    file: str  # named by --config, or ""
    prog: str

    def explain(self, text: str) -> str:
        """Turn the parser's message into ours; one that is not known stays as it is."""
        for pattern, say in (
            (r"unrecognized arguments: (.*)", self._unknown),
            (r'Parser key "config": Path is not a file: .*', self._no_file),
            (r'Parser key "(\w+)": .*(?:Got|Given) value: (.*)', self._value),
            (r"argument (--[\w-]+): expected one argument", self._no_value),
        ):
            found = re.fullmatch(pattern, text)
            if found:
                return say(*found.groups())
        return text

    def _unknown(self, rest: str) -> str:
        given = max((word for word in self.argv if rest.startswith(word)), key=len, default=rest)
        name = given.partition("=")[0]
        if not given.startswith("-"):
            return self._without_flag(given)
        if name.removeprefix("--") in self._positional():
            value = given.partition("=")[2] or rest.removeprefix(given).strip() or self._after(name)
            return f"{name.removeprefix('--')} is given without {name}: {self.prog} {value}"
        known = [
            *map(flag, self._names()),
            *(flag(f"no-{n}") for n in self._names() if self._hint(n) is bool),
        ]
        return f"no option {name}{near_options(name, known)}"

    def _without_flag(self, word: str) -> str:
        before = self.argv[self.argv.index(word) - 1] if word in self.argv[1:] else ""
        name = before.removeprefix("--").removeprefix("no-").replace("-", "_")
        if before.startswith("--") and name in self._names() and self._hint(name) is bool:
            return (
                f"{before} takes no value, {word!r} follows it: give {flag(name)} or "
                f"{flag(f'no-{name}')}"
            )
        main = next((name for name in MAIN if name in self._names()), "")
        meant = f": did you mean {flag(main)} {shlex.quote(word)}?" if main else ""
        return f"{word!r} follows no option{meant}"

    def _value(self, name: str, value: str) -> str:
        if name not in self._names():
            return f"{name} is {value!r}"
        return f"{flag(name)} is {value!r}: give {value_kind(self._hint(name))}"

    def _no_file(self) -> str:
        return f"--config {self.file} is not a file: give a YAML file"

    def _no_value(self, name: str) -> str:
        return f"{name} needs a value"

    def _names(self) -> list[str]:
        return [field.name for field in declared(self.config_class) if not _is_bare(field)]

    def _positional(self) -> list[str]:
        return [field.name for field in declared(self.config_class) if _is_bare(field)]

    def _hint(self, name: str) -> Any:
        return typing.get_type_hints(self.config_class)[name]

    def _after(self, name: str) -> str:
        place = list(self.argv).index(name)
        return " ".join(self.argv[place + 1 : place + 2])


def _is_bare(field: "dataclasses.Field[Any]") -> bool:
    return bool(field.metadata["positional"])


def near_options(name: str, known: Sequence[str]) -> str:
    """Ask for the options that look like `name`, or that other trainers call so: flags, or keys."""
    spelled = {flag(option.removeprefix("--")): option for option in known}
    given = flag(name.removeprefix("--"))
    alike = difflib.get_close_matches(given[2:], [option[2:] for option in spelled], 2, 0.7)
    meant = ALIASES.get(given)
    near = [meant] if meant in spelled else [f"--{option}" for option in alike]
    return f": did you mean {' or '.join(spelled[option] for option in near)}?" if near else ""
