"""Recipes by name: `--config voc-resnet18`.

Installed, they are inside this package; in the repository they are beside it.
"""

import os
import re
from pathlib import Path

from shards.errors import DataError

INSTALLED = Path(__file__).parent / "recipes"  # see setup.py
FOLDER = INSTALLED if INSTALLED.is_dir() else INSTALLED.parents[1] / "recipes"
DEFAULT = "digits"


def recipe_names() -> list[str]:
    """List the recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find_recipe(given: str) -> str:
    """Return the file that --config means: a file of that path, or else the recipe of that name.

    `voc-resnet18`, `voc-resnet18.yaml` and `recipes/voc-resnet18.yaml` name the same one. Whatever
    is not spelled as a name is returned as it is. Raises DataError for a name that no recipe has.
    """
    name = re.fullmatch(r"(recipes/)?([A-Za-z0-9][\w.-]*)", given)
    if os.path.isfile(given) or not name:
        return given
    stem = re.sub(r"\.ya?ml$", "", name[2])
    if stem in recipe_names():
        return str(FOLDER / f"{stem}.yaml")
    raise DataError(
        f"--config {given}: no such file, and no recipe of that name: choose "
        f"{', '.join(recipe_names())}"
    )
