"""A run's config.yaml: written as a recipe, read back without unknown keys."""

import dataclasses
from pathlib import Path
from typing import Any, Self

import yaml

from shards.errors import DataError
from shards.flags.config_values import read_options, typed_options
from train.combinations import check_names


class ConfigFile:
    """The way of a configuration, a dataclass, into YAML and back."""

    def to_yaml(self) -> str:
        """Write the resolved configuration in the form of a recipe."""
        values = dataclasses.asdict(self)  # type: ignore[call-overload] # of the class itself
        values |= {name: list(value) for name, value in values.items() if isinstance(value, tuple)}
        del values["resume"]  # how a run was continued is not what it is
        if not values["sweep"]:
            del values["sweep"]
        return yaml.safe_dump(values, sort_keys=False)

    @classmethod
    def from_yaml(cls, path: Path) -> Self:
        """Read a run's config.yaml. Newer options take their defaults; keys that there are not, and
        values that no flag takes, are refused.
        """
        given = _read_run(path)
        names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        check_names(path, set(given), names)
        values = typed_options(cls, given, path)
        try:
            return cls(**values)
        except DataError as error:
            raise DataError(f"{path}: {error}") from error


def _read_run(path: Path) -> dict[str, Any]:
    try:
        return read_options(path)
    except DataError as error:
        why = str(error).removeprefix(f"{path}: ")
        raise DataError(
            f"{path}: not the configuration of a run ({why}); put back the file that training wrote"
        ) from error
