"""What a sweep trains: one run for each value of an option; of several options, one for each
combination.
"""

import dataclasses
import itertools
import math
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from shards.commandline import folder
from shards.errors import DataError
from shards.flags.refused_options import near_options
from shards.pages.spelling import plain
from train.checks import check_new
from train.config import TrainConfig

Number = int | float


@dataclass(frozen=True)
class Point:
    """One run of a sweep."""

    name: str  # of its folder, such as lr=0.01 or lr=0.01_momentum=0.9
    values: dict[str, Number]
    config: TrainConfig


def points(config: TrainConfig) -> list[Point]:
    """Lay out the runs of `config.sweep`, the last option varying fastest. Raises DataError for
    what cannot be swept.

    Every configuration is made here, so a value out of range is refused before anything is trained.
    """
    options = parse_sweep(config.sweep)
    found = []
    for combination in itertools.product(*options.values()):
        values: dict[str, Any] = dict(zip(options, combination, strict=True))
        name = "_".join(
            f"{option}={repr(value).removesuffix('.0')}" for option, value in values.items()
        )
        out = str(folder(config.out) / name)
        try:
            of_point = dataclasses.replace(config, sweep="", out=out, **values)
            check_new(of_point)
        except DataError as error:
            raise DataError(f"sweep is {config.sweep}: {error}") from error
        found.append(Point(name, values, of_point))
    return found


def parse_sweep(text: str) -> dict[str, list[Number]]:
    """Read `lr=0.01,0.005,momentum=0,0.9`: a word with a `=` begins the next option."""
    kinds = _numeric_options()
    options: dict[str, list[Number]] = {}
    name = ""
    for word in text.split(","):
        before, equals, value = word.rpartition("=")
        if equals:
            name = before.strip().replace("-", "_")
            if name not in kinds:
                raise DataError(f"sweep is {text}: {_why_not(name, kinds)}")
            if name in options:
                raise DataError(
                    f"sweep is {text}: names {name} twice; give all its values after one {name}="
                )
            options[name] = []
        elif not name:
            raise DataError(
                f"sweep is {text}: give an option and its values, such as lr=0.01,0.005,0.001"
            )
        number = _number(text, name, value.strip(), kinds[name])
        if number in options[name]:
            raise DataError(f"sweep is {text}: {name} has the value {number} twice; give it once")
        options[name].append(number)
    return options


def _why_not(name: str, kinds: Iterable[str]) -> str:
    """Say why an option cannot be swept, and which ones may have been meant."""
    if name in {field.name for field in dataclasses.fields(TrainConfig)}:
        return f"{name} is no numeric option; sweep one that is a number, such as lr"
    near = near_options(name, list(kinds))
    return f"no option {plain(name)!r}{near or '; python -m train --help lists the options'}"


def _number(text: str, name: str, value: str, kind: type[Number]) -> Number:
    try:
        number = kind(value)
    except ValueError as error:
        raise DataError(
            f"sweep is {text}: {name} takes {'whole numbers' if kind is int else 'numbers'}, not "
            f"{value!r}; give {name}=1,2 or the like"
        ) from error
    if not math.isfinite(number):
        raise DataError(f"sweep is {text}: {name} cannot be {value}; give a finite number")
    return number


def _numeric_options() -> dict[str, type[Number]]:
    hints = typing.get_type_hints(TrainConfig)
    return {
        field.name: float if hints[field.name] is float else int
        for field in dataclasses.fields(TrainConfig)
        if hints[field.name] in (int, float, int | str)
    }
