"""Declare an option once: default, help, bounds, group, and whether a resumed run may change it.

Checks, the groups of `--help` and the list in docs/guarantees.md follow from the declaration.
"""

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shards.errors import DataError

Number = int | float


@dataclass(frozen=True)
class Bounds:
    """Which numbers an option takes.

    `unit` is what is counted, such as `pixels`, or what the number is, such as `a probability`.
    `zero` says what 0 means where it is outside the bounds.
    """

    ge: Number | None = None
    le: Number | None = None
    gt: Number | None = None
    lt: Number | None = None
    unit: str = ""
    zero: str = ""

    def hold(self, number: Number) -> bool:
        """Tell whether `number` is allowed. NaN is not, where there is any bound: it compares as
        False.
        """
        if self.zero and number == 0:
            return True
        return (
            (self.ge is None or number >= self.ge)
            and (self.gt is None or number > self.gt)
            and (self.le is None or number <= self.le)
            and (self.lt is None or number < self.lt)
        )

    def spelled(self) -> str:
        """Spell the range, such as `at least 16` or `from 0 to below 1`."""
        return f"{self._low()} {self._high()}".strip() + (", or 0" if self.zero else "")

    def remedy(self) -> str:
        """Say which values to give, such as `at least 16 pixels, or 0 for the size of training`."""
        text = f"{self._low()} {self._high()}".strip()
        if self.unit and not self.unit.startswith("a "):
            text = f"{text} {self.unit}"
        elif not text.startswith("at least") and text != "0 or more":
            text = (
                f"{self.unit or ('a finite number' if self.lt == math.inf else 'a number')} {text}"
            )
        return text + (f", or 0 for {self.zero}" if self.zero else "")

    def _low(self) -> str:
        if self.gt is not None:
            return f"above {self.gt}"
        if self.ge is None:
            return ""
        if self._high():
            return f"from {self.ge}"
        return "0 or more" if self.ge == 0 else f"at least {self.ge}"

    def _high(self) -> str:
        if self.le is not None:
            text = f"to {self.le}" if self.ge is not None else f"at most {self.le}"
        elif self.lt is not None and self.lt != math.inf:
            text = f"to below {self.lt}" if self.ge is not None else f"below {self.lt}"
        else:
            return ""
        return f"and {text}" if self.gt is not None else text


def option(
    default: Any,
    help: str,
    positional: bool = False,
    *,
    ge: Number | None = None,
    le: Number | None = None,
    gt: Number | None = None,
    lt: Number | None = None,
    unit: str = "",
    zero: str = "",
    group: str = "",
    only_with: tuple[str, Any] | None = None,
    free_on_resume: bool = False,
) -> Any:
    """Declare a dataclass field that is also a flag, or an argument without one.

    `ge`, `le`, `gt`, `lt`, `unit` and `zero` are its `Bounds`; of a tuple they bound each number.
    `group` is its title in `--help`. `only_with` names another option and the value without which
    this one does nothing. `free_on_resume`: a run may go on with another value and gives the same
    weights.
    """
    metadata = {
        "help": help,
        "positional": positional,
        "bounds": Bounds(ge, le, gt, lt, unit, zero),
        "group": group,
        "only_with": only_with,
        "free_on_resume": free_on_resume,
    }
    return dataclasses.field(default=default, metadata=metadata)


def grouped(field: "dataclasses.Field[Any]", group: str) -> Any:
    """Declare the same option in another dataclass, under the title `group` in `--help`."""
    return dataclasses.field(default=field.default, metadata={**field.metadata, "group": group})


def declared(config: Any) -> Iterator[dataclasses.Field[Any]]:
    """Yield the fields of a dataclass, or of an instance of one, that `option` declares."""
    return (field for field in dataclasses.fields(config) if "help" in field.metadata)


def check_bounds(config: Any, *, as_flags: bool = False) -> None:
    """Raise DataError for the first option whose value is out of its declared bounds.

    It is named as in a configuration file, `warmup_epochs`, or with `as_flags` as on a command
    line, `--warmup-epochs`.
    """
    for field in declared(config):
        name = flag(field.name) if as_flags else field.name
        check_bound(field, getattr(config, field.name), name)


def check_bound(field: "dataclasses.Field[Any]", value: Any, name: str = "") -> None:
    """Raise DataError where the value of an option is out of its declared bounds."""
    bounds = field.metadata["bounds"]
    numbers = value if isinstance(value, tuple) else (value,)
    # None is an option that was not given, where that is its default; of others the comparison
    # raises TypeError.
    if bounds == Bounds() or (value is None and field.default is None):
        return
    if not all(bounds.hold(number) for number in numbers):
        raise DataError(
            f"{name or field.name} is {list(value) if isinstance(value, tuple) else value}: give "
            f"{bounds.remedy()}"
        )


def idle(config: Any) -> dict[str, tuple[str, Any]]:
    """Name the options that do nothing in this configuration, each with the other option and value
    that it needs.
    """
    needed = {
        field.name: field.metadata["only_with"]
        for field in declared(config)
        if field.metadata["only_with"]
    }
    return {
        name: (other, value)
        for name, (other, value) in needed.items()
        if getattr(config, other) != value
    }


def check_idle(config: Any) -> None:
    """Raise DataError for the first option that was given a value and does nothing."""
    for name, (other, value) in idle(config).items():
        given = getattr(config, name)
        default = getattr(type(config), name)
        if given != default:
            raise DataError(
                f"{name} is {spelled(given)}, but {other} is {getattr(config, other)}: leave it "
                f"out ({_given(name, default)}), or give {flag(other)} {value}"
            )


def free_on_resume(config_class: type) -> tuple[str, ...]:
    """Name the options that may differ between a run and its continuation."""
    return tuple(field.name for field in declared(config_class) if field.metadata["free_on_resume"])


def flag(name: str) -> str:
    """Spell an option as its flag."""
    return "--" + name.replace("_", "-")


def _given(name: str, value: Any) -> str:
    """Spell an option with its value as on a command line."""
    if isinstance(value, bool):
        return flag(name) if value else flag(f"no-{name}")
    return f"{flag(name)} {spelled(value)}"


def spelled(value: Any) -> str:
    """Spell a value as its flag takes it."""
    if isinstance(value, tuple):
        return str(list(value)).replace(" ", "")
    return repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
