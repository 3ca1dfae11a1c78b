"""Read photographs from one folder per class, the layout of torchvision's ImageFolder."""

from dataclasses import dataclass
from pathlib import Path

from preprocess.reading.class_name_checks import skeleton
from preprocess.reading.class_names import normal_form
from preprocess.reading.folders import walk_folder
from preprocess.reading.paths import short_names
from preprocess.record import Record, Source
from preprocess.sources.folder_layout import find_layout, images_in, subfolders
from shards.errors import DataError, count_of
from shards.host.picture_files import IMAGE_SUFFIXES, is_image, is_junk
from shards.index import list_splits

_NAMED = 3  # in a line about many


@dataclass
class ImageFolder(Source):
    """A source over `root/class/x.jpg`, one split `all`, or over `root/train/class/x.jpg` and
    `root/val/class/x.jpg`.

    Folders below a class belong to it, linked ones too. Classes and files are sorted as torchvision
    sorts them, so class numbers are the same. A split folder holds folders and is named train, val,
    test, or in another usual way (Training, seg_train, valid, test_set, dev). What systems and
    tools leave behind (`__MACOSX`, `.DS_Store`, `Thumbs.db`, hidden files) is neither class nor
    image. Raises DataError for what torchvision would let pass: classes that differ between splits,
    images beside the class folders, files in them that are no images.
    """

    root_holds = (
        "the folder that holds a folder per class, or train and val with a folder per class each"
    )
    example = "--root photos --out data/photos --val-fraction 0.2"

    root: Path

    def __post_init__(self) -> None:
        self.task = "multiclass"
        if not self.root.is_dir():
            raise DataError(f"{self.root} is not a folder; give {self.root_holds}")
        _refuse_packed(self.root)
        self._layout = find_layout(self.root)
        self._classes = {split: _classes(folder) for split, folder in self._layout.splits.items()}
        self.class_names = self._find_classes()
        # images left out because their name starts with a dot, by split
        self._hidden: dict[str, list[str]] = {}
        self._below: dict[str, str] = {}  # a folder inside a class folder, by class

    def splits(self) -> tuple[str, ...]:
        """Return the split folders there are, or ("all",)."""
        return tuple(self._layout.splits)

    def records(self, split: str) -> list[Record]:
        """List the images of a split, class by class, each class by path. Raises DataError."""
        if split not in self._classes:
            raise DataError(
                f"split {split!r} is not in {self.root}; there are: {', '.join(self._classes)}"
            )
        folder = self._layout.splits[split]
        found: list[tuple[Path, int]] = []
        hidden: list[str] = []
        for label, name in enumerate(self.class_names):
            class_folder = self._classes[split][name]
            paths, dotted = _images(class_folder)
            found += [(path, label) for path in paths]
            hidden += [path.relative_to(self.root).as_posix() for path in dotted]
            self._note_folders_below(name, class_folder, paths)
        if not found:
            raise DataError(
                f"{folder} holds no image; fill its class folders or leave the split out with "
                f"--splits"
            )
        self._hidden[split] = hidden
        names = short_names([path.relative_to(folder).as_posix() for path, _ in found])
        return [
            Record(name, path, path.relative_to(self.root).as_posix(), (label,), ())
            for name, (path, label) in zip(names, found, strict=True)
        ]

    def describe(self) -> list[str]:
        """Say which folders are splits and classes, and what was left out of them."""
        lines = ["labels: the names of the class folders, one for each image"]
        for split, folder in self._layout.splits.items():
            where = folder.relative_to(self.root).as_posix()
            if where not in (".", split):
                lines.append(f"split {split}: folder {where}")
        if self._below:
            name, below = next(iter(self._below.items()))
            also = (
                f", and so in {count_of(len(self._below) - 1, 'more class')}"
                if len(self._below) > 1
                else ""
            )
            lines.append(
                f"class {name} has folders below it, such as {below}, which belong to it{also}"
            )
        lines += self._layout.left_out
        hidden = [path for paths in self._hidden.values() for path in paths]
        if hidden:
            more = f" and {len(hidden) - _NAMED:,} more" if len(hidden) > _NAMED else ""
            lines.append(
                f"left out, since their names start with a dot: {', '.join(hidden[:_NAMED])}{more}"
            )
        return lines

    def _note_folders_below(self, name: str, folder: Path, paths: list[Path]) -> None:
        below = next((path.parent for path in paths if path.parent != folder), None)
        if below is not None:
            self._below.setdefault(name, below.relative_to(folder).as_posix())

    def _find_classes(self) -> tuple[str, ...]:
        """Return the classes of the first split, which all others must have too."""
        (first, classes), *others = self._classes.items()
        for folder in classes.values():
            if not _images(folder)[0]:
                raise DataError(
                    f"{folder} holds no image, so the class could not be learnt; fill or remove it"
                )
        for split, there in others:
            unknown = set(there).difference(classes)
            missing = set(classes).difference(there)
            if unknown:
                odd = min(unknown)
                alike = [name for name in classes if skeleton(name) == skeleton(odd)]
                remedy = (
                    f"it has {alike[0]!r}: rename one of them"
                    if alike
                    else "remove it or rename it"
                )
                raise DataError(f"{there[odd]}: {first} has no class {odd!r}; {remedy}")
            if missing:
                empty = self._layout.splits[split] / classes[min(missing)].name
                raise DataError(
                    f"{split} has no class {min(missing)!r}, {first} has; "
                    f"make {empty}, an empty folder, if no image of it is there"
                )
        return tuple(classes)


def _refuse_packed(root: Path) -> None:
    """Raise DataError for a packed dataset; one beside the photographs that it was made of is not
    meant.
    """
    packed = list_splits(root)
    if packed and not any(is_image(path.name) for path in root.rglob("*")):
        raise DataError(
            f"{root} is a packed dataset with the splits {', '.join(packed)}, no folder of "
            f"photographs; train on it with --data {root}, or give the folder it was packed from"
        )


def _classes(folder: Path) -> dict[str, Path]:
    """Map the classes of a split to their folders; images beside them have no label and are
    refused.
    """
    names = subfolders(folder)
    stray = images_in(folder)
    if stray and not names:
        raise DataError(
            f"{folder} holds images but no class folder; put each class's images into a folder of "
            f"its name"
        )
    if stray:
        raise DataError(
            f"{folder / stray[0]} is in no class folder; move it into one, or out of {folder}"
        )
    if not names:
        raise DataError(
            f"{folder} holds no class folder; put each class's images into a folder of its name"
        )
    found: dict[str, Path] = {}
    for name in names:
        same = found.setdefault(normal_form(name), folder / name)
        if same.name != name:
            raise DataError(
                f"{folder} holds two folders of one name, {same.name!a} and {name!a}: the same "
                "letters in two Unicode forms; move the images of one into the other"
            )
    return found


def _images(folder: Path) -> tuple[list[Path], list[Path]]:
    """List the images of a class, and those left out because they are hidden. Raises DataError for
    other files.
    """
    found: list[Path] = []
    hidden: list[Path] = []
    for parent, files in walk_folder(folder):
        for name in files:
            path = Path(parent, name)
            if is_junk(name):
                # ._1.jpg is what macOS knows of 1.jpg
                if is_image(name) and not name.startswith("._"):
                    hidden.append(path)
            elif is_image(name):
                found.append(path)
            else:
                raise DataError(
                    f"{path} is none of {' '.join(IMAGE_SUFFIXES)}; convert it or move it out of "
                    f"the class"
                )
    return found, hidden
