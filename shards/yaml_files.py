"""YAML as people write it: no key twice, `no` is a word, and 32:48 no number of base 60."""

import re
from collections.abc import Hashable
from typing import Any

import yaml

_BOOL = "tag:yaml.org,2002:bool"
_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_MERGE = "tag:yaml.org,2002:merge"
_TIMESTAMP = "tag:yaml.org,2002:timestamp"


class UniqueKeys(yaml.SafeLoader):
    """PyYAML's safe loader, which takes the last of two equal keys and says nothing, and 32:48 for
    1968, except for that.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse a key that is there twice, and name both lines."""
        lines: dict[tuple[str, str], int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            given = (key.tag, str(key.value))
            if given in lines and key.tag != _MERGE:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value} is given twice, in lines {lines[given]} and {line}: keep "
                    f"one of them"
                )
            lines[given] = line
        return super().construct_mapping(node, deep)


class Words(UniqueKeys):
    """Reads recipes and flags: besides, `no` and `yes` are words, as in YAML 1.2, and 1e-3 is a number.

    PyYAML reads `precision: no` as a truth value. Options that are on or off take the words too.
    """


def _resolvers(
    loader: type[yaml.SafeLoader], *replaced: str
) -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return a loader's rules for what a plain word means, without those that are replaced."""
    rules = loader.yaml_implicit_resolvers.items()
    return {letter: [rule for rule in found if rule[0] not in replaced] for letter, found in rules}


UniqueKeys.yaml_implicit_resolvers = _resolvers(yaml.SafeLoader, _INT)
UniqueKeys.add_implicit_resolver(
    _INT,
    re.compile(r"^[-+]?(?:0b[01_]+|0[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$"),
    list("-+0123456789"),
)
Words.yaml_implicit_resolvers = _resolvers(UniqueKeys, _BOOL, _FLOAT, _TIMESTAMP)
Words.add_implicit_resolver(
    _BOOL,
    re.compile(r"^(?:true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)$"),
    list("tTfFoO"),
)
Words.add_implicit_resolver(
    _FLOAT,
    re.compile(
        r"^[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9_]+)(?:[eE][-+]?[0-9]+)?"
        r"|[0-9][0-9_]*[eE][-+]?[0-9]+|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def read_words(text: str) -> Any:
    """Read a recipe, or the value of a flag. Raises yaml.YAMLError."""
    value = yaml.load(text, Loader=Words)
    if isinstance(value, dict) and value and all(each is None for each in value.values()):
        return text  # a flag such as `--data {a}` or `--out a:`; no option is a mapping
    return value
