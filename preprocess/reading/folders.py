"""Walk a folder and everything below it, through links too, but never in a circle."""

import os
from pathlib import Path
from typing import NoReturn

from shards.errors import DataError
from shards.host.picture_files import is_junk


def walk_folder(folder: Path) -> list[tuple[str, list[str]]]:
    """List (folder, its files), sorted, of a folder and all below it, through links too.

    Raises DataError for a link back to a folder above it, which would never end, and OSError for a
    folder that cannot be read.
    """
    above = {str(folder): {_identity(folder)}}  # of a folder to come: itself and all that hold it
    found = []
    for parent, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        within = above.pop(parent)
        folders[:] = [name for name in folders if not is_junk(name)]
        for path in (os.path.join(parent, name) for name in folders):
            identity = _identity(path)
            if identity in within:
                raise DataError(f"{path} is a link back to a folder that holds it; remove the link")
            above[path] = within | {identity}
        found.append((parent, sorted(files)))
    return sorted(found)


def _identity(folder: str | Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _raise(error: OSError) -> NoReturn:
    raise error
