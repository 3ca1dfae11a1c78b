"""Find files whose names are in another Unicode form on disk than in the file that lists them.

macOS and its archives store é as e and an accent (NFD), most other programs as one character (NFC).
"""

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from preprocess.reading.class_names import normal_form
from preprocess.reading.paths import inside
from shards.errors import DataError, count_of


class NamesByForm:
    """Names that are there, such as the files of a folder. An exact match wins; else it is the one
    name whose form NFC is the same.
    """

    def __init__(self, names: Collection[str]) -> None:
        self._there = names
        self._forms: dict[str, list[str]] | None = None
        self._given: dict[str, str] = {}

    def __contains__(self, name: object) -> bool:
        """Say whether `find` would find a name."""
        return name in self._there or bool(self.same(str(name)))

    def same(self, name: str) -> list[str]:
        """List the names of the same form NFC; an ASCII name is itself alone."""
        if name.isascii():
            return [name] if name in self._there else []
        if self._forms is None:
            self._forms = {}
            for other in self._there:
                if not other.isascii():
                    self._forms.setdefault(normal_form(other), []).append(other)
        return self._forms.get(normal_form(name), [])

    def find(self, name: str, where: str) -> str | None:
        """Return the name that is there; None where there is none. Raises DataError for several,
        and where another spelling was found to be the same.
        """
        if name.isascii():
            return name if name in self._there else None
        found = name if name in self._there else _only(self.same(name), name, where)
        if found is not None:
            _note(self._given, found, name, where)
        return found


class FilesByForm:
    """Files below a folder, by the path that another file gives. A folder is listed only where a
    path that is not ASCII leads to no file.
    """

    def __init__(self) -> None:
        self._folders: dict[Path, NamesByForm] = {}
        self._given: dict[str, str] = {}

    def find(self, folder: Path, given: str, where: str) -> Path:
        """Return the path of a file on disk; that of the given name where none is there. Raises
        DataError for several files, for one that was found by another spelling, and for a path
        that leads out of the folder.
        """
        return self.stored(folder, inside(folder, given, where), where)

    def stored(self, folder: Path, path: Path, where: str) -> Path:
        """Return the path on disk of a path that `inside` made."""
        text = str(path)  # kept by pathlib: an ASCII name costs 0.1 us, another one a stat
        if text.isascii():
            return path
        found = path if os.path.exists(text) else self._other(folder, path, where)
        if found is not None:
            _note(self._given, str(found), text, where)
        return found or path

    def _other(self, folder: Path, path: Path, where: str) -> Path | None:
        """Find the path below a folder that is the same in form NFC."""
        given = path.relative_to(folder)
        found = [""]
        for part in given.parts:
            found = [os.path.join(at, n) for at in found for n in self._same(folder / at, part)]
        there = [name for name in found if os.path.exists(folder / name)]
        only = _only(there, given.as_posix(), where)
        return None if only is None else folder / only

    def _same(self, folder: Path, name: str) -> list[str]:
        if name.isascii():
            return [name]
        if folder not in self._folders:
            self._folders[folder] = NamesByForm(_listed(folder))
        return self._folders[folder].same(name)


def _listed(folder: Path) -> set[str]:
    try:
        with os.scandir(folder) as entries:
            return {entry.name for entry in entries}
    except OSError:  # no folder: what is in it is missing
        return set()


def _only(found: Collection[str], given: str, where: str) -> str | None:
    if len(found) > 1:
        raise DataError(
            f"{where}: {given!a} is not there, but {count_of(len(found), 'file')} whose names "
            f"differ from it only in the Unicode form: {_shown(found)}; rename the one that is meant"
        )
    return next(iter(found), None)


def _note(notes: dict[str, str], found: str, given: str, where: str) -> None:
    """Note how a file was spelled. Raises DataError where that was another way before."""
    before = notes.setdefault(found, given)
    if before != given:
        raise DataError(
            f"{where}: {given!a} is one file with {before!a}, which differs only in the Unicode "
            f"form; remove one of the two"
        )


def _shown(names: Iterable[str]) -> str:
    return ", ".join(ascii(name) for name in sorted(names)[:3])
