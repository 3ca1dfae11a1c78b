"""What pyproject.toml cannot say: a wheel has recipes/ as train/recipes/.

A top-level package called `recipes` would take a name that is anybody's.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

RECIPES = sorted(str(path) for path in Path("recipes").glob("*.yaml"))


class BuildWithRecipes(build_py):
    """Copy the recipes too; an editable install reads them where they are."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            folder = Path(self.build_lib, "train", "recipes")
            self.mkpath(str(folder))
            for recipe in RECIPES:
                self.copy_file(recipe, str(folder))

    def get_source_files(self) -> list[str]:
        return [*super().get_source_files(), *RECIPES]


setup(cmdclass={"build_py": BuildWithRecipes})
