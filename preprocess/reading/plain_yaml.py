"""YAML of strangers with every plain value as text: classes are called `no`, `on`, `1.10`."""

from typing import Any

import yaml

from shards.errors import DataError, one_line
from shards.yaml_files import UniqueKeys

EMPTY = ("", "~", "null", "none")  # how a value is left out, in lower case


class _Texts(UniqueKeys):
    """Reads every plain value as text."""

    yaml_implicit_resolvers = {}  # noqa: RUF012


def read_plain_yaml(text: str, where: object) -> Any:
    """Parse YAML to mappings, lists and texts. Raises DataError where it is none."""
    try:
        return yaml.load(text, Loader=_Texts)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise DataError(f"{where} is no YAML ({one_line(error)}); correct it") from None
