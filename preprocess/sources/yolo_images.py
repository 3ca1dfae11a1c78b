"""Find the images of a YOLO split, and of images/train/1.jpg the label file labels/train/1.txt."""

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from preprocess.reading.folders import walk_folder
from preprocess.reading.paths import inside
from preprocess.reading.small_files import read_small
from preprocess.reading.unicode_files import FilesByForm, NamesByForm
from shards.errors import DataError
from shards.host.picture_files import is_image, is_junk

_MAX_LIST_BYTES = 1 << 30
_NAMES = frozenset(("classes.txt", "predefined_classes.txt", "obj.names", "notes.json"))


@dataclass
class Places:
    """Where files of the dataset are: paths in it are turned into paths below `root`.

    `bases` are folders below root, in the order in which they are tried: the one that `path:`
    names, that of data.yaml, root itself.
    """

    root: Path
    bases: tuple[Path, ...]
    notes: list[str] = field(default_factory=list)  # what was read otherwise than it is given
    on_disk: FilesByForm = field(default_factory=FilesByForm)

    def images(self, place: str, where: str) -> list[str]:
        """List the images of a folder or of a list file, relative to root. Raises DataError."""
        found = self._find(place, where)
        if found.is_dir():
            return [self._below(path) for path in _images(found)]
        if is_image(found.name):
            return [self._below(found)]
        return self._listed(found)

    def _find(self, given: str, where: str) -> Path:
        """Find a folder or list file that data.yaml names."""
        own = self._own(given)
        for base in self.bases:
            path = self.on_disk.find(base, own, where)
            if path.exists():
                return path
        tried = ", ".join(str(base) for base in dict.fromkeys(self.bases))
        raise DataError(
            f"{where}: {given!r} is neither folder nor list below {tried}; correct it, or give "
            "another --root"
        )

    def _own(self, given: str) -> str:
        """Write a path relative to a base, without the ../ that Roboflow puts before splits."""
        path = given.replace("\\", "/")
        for root in (self.root, self.root.resolve()):
            if PurePosixPath(path).is_absolute() and PurePosixPath(path).is_relative_to(
                root.as_posix()
            ):
                return PurePosixPath(path).relative_to(root.as_posix()).as_posix()
        while path.startswith(("./", "../")):
            path = path.partition("/")[2].lstrip("/")
        return path

    def _listed(self, path: Path) -> list[str]:
        """List the images that a list file names."""
        lines = read_small(path, _MAX_LIST_BYTES).splitlines()
        names = [(number, line.strip()) for number, line in enumerate(lines, 1) if line.strip()]
        if not names:
            raise DataError(f"{path} lists no image; fill it, or leave the split out with --splits")
        folder, dropped = self._start(path, *names[0])
        found = []
        for number, name in names:
            own = "/".join(self._own(name).lstrip("/").split("/")[dropped:])
            if not is_image(own):
                raise DataError(
                    f"{path}:{number}: {name[:200]!r} is no image; list one image a line"
                )
            found.append(self._below(inside(folder, own, f"{path}:{number}")))
        return found

    def _start(self, path: Path, number: int, name: str) -> tuple[Path, int]:
        """Find by its first line from where a list counts: (folder, how many parts are dropped).

        Darknet writes paths of the machine that trained, CVAT puts `data/` before its own.
        """
        parts = self._own(name).lstrip("/").split("/")
        for dropped in range(len(parts)):
            rest = "/".join(parts[dropped:])
            for folder in dict.fromkeys((path.parent, *self.bases)):
                if (
                    rest
                    and ".." not in parts
                    and self.on_disk.find(folder, rest, f"{path}:{number}").is_file()
                ):
                    if dropped:
                        without = "/".join(parts[:dropped])
                        self.notes.append(f"{self._below(path)}: paths are read without {without}/")
                    return folder, dropped
        raise DataError(
            f"{path}:{number}: {name[:200]!r} is no image below {self.root}; give another --root"
        )

    def _below(self, path: Path) -> str:
        return os.path.normpath(path.relative_to(self.root)).replace(os.sep, "/")


class LabelFiles:
    """The label file of each image: in `labels` for the last `images` of its path, or beside it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folders: dict[
            str, dict[str, str]
        ] = {}  # of label files: theirs by name, suffix in lower case
        self._of_images: dict[str, str] = {}  # folders of label files
        self._stems: dict[str, NamesByForm] = {}
        self._on_disk = FilesByForm()
        self._used: set[str] = set()

    def find(self, image: str) -> str | None:
        """Return the label file of an image, both relative to root; None where it has none."""
        folder, _, name = image.rpartition("/")
        there = self._of_images.setdefault(folder, self._folder_of(folder))
        if there not in self._folders:
            self._folders[there] = _text_files(self._root / there)
            self._stems[there] = NamesByForm(self._folders[there])
        stem = self._stems[there].find(f"{name.rpartition('.')[0]}.txt", str(self._root / there))
        if stem is None:
            return None
        found = self._folders[there][stem]
        path = f"{there}/{found}" if there else found
        self._used.add(path)
        return path

    def looked_in(self, image: str) -> Path:
        """Return the folder where the label file of an image is looked for."""
        return self._root / self._folder_of(image.rpartition("/")[0])

    def unused(self) -> list[str]:
        """List the label files in these folders that belong to no image which was asked for."""
        every = (
            f"{folder}/{name}".lstrip("/")
            for folder, names in self._folders.items()
            for name in names.values()
        )
        return sorted(
            path
            for path in every
            if path not in self._used and path.rpartition("/")[2] not in _NAMES
        )

    def _folder_of(self, folder: str) -> str:
        known = self._of_images.get(folder)
        if known is not None:
            return known
        folder = self._as_stored(folder)
        parts = folder.split("/")
        at = next((n for n in reversed(range(len(parts))) if parts[n].lower() == "images"), None)
        if at is None:
            return folder
        for name in ("labels", "Labels", "LABELS"):
            path = self._as_stored("/".join((*parts[:at], name, *parts[at + 1 :])))
            if (self._root / path).is_dir():
                return path
        beside = any(name.endswith(".txt") for name in _text_files(self._root / folder))
        return folder if beside else "/".join((*parts[:at], "labels", *parts[at + 1 :]))

    def _as_stored(self, folder: str) -> str:
        """Write the path of a folder as it is on disk."""
        if folder.isascii():
            return folder
        path = self._on_disk.find(self._root, folder, str(self._root))
        return path.relative_to(self._root).as_posix()


def _images(folder: Path) -> list[Path]:
    """List the images of a folder and all below it, without those in `labels`, such as masks."""
    return [
        Path(parent, name)
        for parent, names in walk_folder(folder)
        if "labels" not in Path(parent).relative_to(folder).parts
        for name in names
        if is_image(name) and not is_junk(name)
    ]


def _text_files(folder: Path) -> dict[str, str]:
    """Map the text files of a folder, with the suffix in lower case, to their names."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        names = sorted(
            e.name for e in entries if e.name.lower().endswith(".txt") and not is_junk(e.name)
        )
    return {f"{name[:-4]}.txt": name for name in names}
