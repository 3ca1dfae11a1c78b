"""A run's config.yaml: written as a recipe, read back without unknown keys."""

import dataclasses
from pathlib import Path
from typing import Self

import yaml

from shards.errors import DataError, one_line
from shards.yaml_files import UniqueKeys
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
        """Read a run's config.yaml; unknown keys are refused, newer options take their defaults."""
        names = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        try:
            values = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeys)
            check_names(path, set(values), names)
            values |= {
                name: tuple(value) for name, value in values.items() if isinstance(value, list)
            }
            return cls(**values)
        except DataError as error:
            raise DataError(f"{path}: {str(error).removeprefix(f'{path}: ')}") from error
        except (OSError, UnicodeDecodeError, yaml.YAMLError, TypeError, IndexError) as error:
            raise DataError(
                f"{path}: not the configuration of a run ({one_line(error)}); put back the file "
                f"that training wrote"
            ) from error
