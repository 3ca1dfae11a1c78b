"""Read photographs and labels from other writers' tar shards, in the layout of WebDataset."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from preprocess.reading.class_names import tidy
from preprocess.reading.memberlabels import (
    ARRAYS,
    IGNORED_FIELD,
    OWN_FIELD,
    Label,
    check_number,
    of_json,
    of_text,
    refuse_gaps,
    refuse_joined,
    refuse_vectors,
)
from preprocess.reading.paths import inside
from preprocess.reading.split_names import in_split_order, split_named, split_of
from preprocess.record import Record, Source
from preprocess.sources.foreign_tar import ForeignSample, TarMember, read_samples
from shards.commandline import option
from shards.errors import DataError, count_of
from shards.host.picture_files import is_junk
from shards.index import Task

_IMAGES = ("jpg", "jpeg", "png")
_MAX_LIST_BYTES = 64 << 20


@dataclass(frozen=True)
class _Found:
    key: str
    shard: Path
    image: TarMember
    labels: tuple[Label, ...]
    ignored: tuple[int, ...] = ()


@dataclass
class WebDataset(Source):
    """A source over tar shards: `root/train-0000.tar`, ..., or `root/train/0000.tar`, ..., or a
    single tar.

    A sample is the members of one key: an image (jpg, jpeg or png) and its labels, either `cls` (or
    another member of
    text: one class, a number or a name; the task is multiclass) or `json` with one label
    (multiclass) or a list of them (multilabel). Numbers are positions in the class list, names are
    classes. Of shards that were packed here, ignored classes stay ignored. Raises DataError with
    shard and member for what does not fit.
    """

    root_holds = "the folder that holds the tar shards"
    example = "--root shards --out data/photos --label-field tags --class-list classes.txt"

    root: Path
    image_member: str = option(
        "", "suffix of the member to take as image; default: the one of jpg, jpeg, png"
    )
    label_member: str = option(
        "", "suffix of the member that holds the labels; default: cls, or json where there is none"
    )
    label_field: str = option("", "key of the labels in a JSON member; default: labels")
    class_list: str = option(
        "", "text file below root with a class's name per line; default: the names or numbers found"
    )

    in_place: bool = option(False, "index the shards in place, without copying images")

    def __post_init__(self) -> None:
        if self.label_member.rpartition(".")[2].lower() in ARRAYS:
            raise DataError(
                f"--label-member {self.label_member}: arrays and pickles are not read, for a "
                "pickle can run code; write the labels as .cls or .json"
            )
        self._task: Task | None = None
        self._member = ""  # in which all samples have their labels
        self._folder = self.root.parent if self.root.is_file() else self.root
        self._found = {
            split: [sample for path in paths for sample in self._read(path)]
            for split, paths in self._shards().items()
        }
        everything = [sample for found in self._found.values() for sample in found]
        kinds = {
            type(label) for sample in everything for label in (*sample.labels, *sample.ignored)
        }
        if len(kinds) > 1:
            raise DataError(
                f"{self.root}: some labels are numbers, others names; write all of them in one way"
            )
        self.task = self._task or "multilabel"
        self.class_names = self._names(everything)
        self._index = {name: number for number, name in enumerate(self.class_names)}

    def splits(self) -> tuple[str, ...]:
        """Return the splits that folders or files are named after, or ("all",)."""
        return tuple(self._found)

    def records(self, split: str) -> list[Record]:
        """List the samples of a split, shard by shard. Raises DataError for an unknown split or
        class.
        """
        if split not in self._found:
            raise DataError(
                f"split {split!r} has no shard in {self.root}; there are: {', '.join(self._found)}"
            )
        found = self._found[split]
        times: dict[str, int] = {}
        for sample in found:
            times[sample.key] = times.get(sample.key, 0) + 1
        records = []
        for sample in found:
            shard = sample.shard.relative_to(self._folder).as_posix()
            # Some writers number the samples of every shard from 0: then the shard is part of the
            # name.
            name = sample.key if times[sample.key] == 1 else f"{shard}/{sample.key}"
            labels, ignored = (
                tuple(sorted({self._number(label, sample) for label in part}))
                for part in (sample.labels, sample.ignored)
            )
            span = (sample.image.offset, sample.image.length)
            source = f"{shard}/{sample.image.name}"
            records.append(Record(name, sample.shard, source, labels, ignored, span))
        return records

    # shards

    def _shards(self) -> dict[str, list[Path]]:
        if self.root.is_file():
            return {split_of(self.root.stem) or "all": [self.root]}
        if not self.root.is_dir():
            raise DataError(f"{self.root} is not there; give {self.root_holds}")
        here = _tars(self.root)
        below: dict[str, list[Path]] = {}
        for folder in sorted(self.root.glob("*/")):
            tars = _tars(folder)
            if tars and (split := split_named(folder.name)):
                below.setdefault(split, []).extend(tars)
        if here and below:
            raise DataError(
                f"{self.root} holds shards, such as {here[0].name}, beside folders of shards; give "
                f"one of them"
            )
        if not here and not below:
            packed = sorted(
                path.name for pattern in ("*.tar.*", "*.tgz") for path in self.root.glob(pattern)
            )
            hint = (
                f"; decompress {packed[0]} and the like" if packed else f"; give {self.root_holds}"
            )
            raise DataError(
                f"{self.root} holds no .tar, nor does a folder train or val in it{hint}"
            )
        for path in here:
            below.setdefault(split_of(path.stem) or "all", []).append(path)
        if len(below) > 1 and "all" in below:
            raise DataError(
                f"{below['all'][0]}: its name says no split, others say "
                f"{', '.join(sorted(set(below) - {'all'}))}; name all shards after their splits, "
                "or put them into folders train and val"
            )
        return {split: below[split] for split in in_split_order(list(below))}

    def _read(self, path: Path) -> Iterator[_Found]:
        wanted = {self.label_member} if self.label_member else {"cls", "json"}
        samples = read_samples(path, wanted.__contains__)
        for sample in tqdm(samples, f"list {path.name}", unit="sample", leave=False, disable=None):
            where = f"{path}: sample {sample.key}"
            image = self._image(sample, where)
            suffix = next(
                (suffix for suffix in ("cls", "json", self.label_member) if suffix in sample.texts),
                None,
            )
            if suffix is None:
                asked = f".{self.label_member}" if self.label_member else ".cls or .json"
                arrays = any(suffix.rpartition(".")[2] in ARRAYS for suffix in sample.members)
                remedy = (
                    "write labels that are arrays as .cls or .json"
                    if arrays
                    else "give --label-member"
                )
                raise DataError(
                    f"{where} has no {asked}, it has {_listed(sample)}; {remedy}, or add it next "
                    f"to the image"
                )
            yield _Found(
                sample.key,
                path,
                image,
                *self._labels(sample.texts[suffix], suffix, f"{where}.{suffix}"),
            )

    def _image(self, sample: ForeignSample, where: str) -> TarMember:
        wanted = (self.image_member,) if self.image_member else _IMAGES
        there = [suffix for suffix in wanted if suffix in sample.members]
        if len(there) != 1:
            state = f"has {' and '.join(there)}" if there else f"has no .{', .'.join(wanted)}"
            raise DataError(
                f"{where} {state}; it has {_listed(sample)}: say with --image-member which is the "
                f"image"
            )
        return sample.members[there[0]]

    def _labels(
        self, text: bytes, suffix: str, where: str
    ) -> tuple[tuple[Label, ...], tuple[int, ...]]:
        """Read the labels and the ignored ones of one sample, and see that all samples have the
        same task, in the same member.
        """
        if suffix != (self._member or suffix):
            raise DataError(
                f"{where}: the labels of samples before it are in .{self._member}; add it to each, "
                "or say with --label-member which one counts"
            )
        self._member = suffix
        ignored: tuple[int, ...] = ()
        if suffix.rpartition(".")[2] == "json":
            value, ignored = of_json(text, self.label_field or OWN_FIELD, where)
        elif self.label_field:
            raise DataError(
                f"{where}: --label-field is of JSON members; leave it out, or give --label-member "
                f"json"
            )
        else:
            value = of_text(text, where)
        task: Task = "multilabel" if isinstance(value, list) else "multiclass"
        self._task = self._task or task
        if self._task != task:
            raise DataError(
                f"{where}: {value!r} where samples before it are {self._task}; write one label, or "
                f"lists, for all"
            )
        labels = tuple(value) if isinstance(value, list) else (value,)
        for label in (*labels, *ignored):
            check_number(label, where)
        return labels, ignored

    # classes

    def _names(self, found: Sequence[_Found]) -> tuple[str, ...]:
        """Name the classes: by the list, or as found. Raises DataError where labels are not what
        they seem.
        """
        first = {
            label: self._where(sample)
            for sample in reversed(found)
            for label in (*sample.labels, *sample.ignored)
        }
        refuse_joined({label: where for label, where in first.items() if isinstance(label, str)})
        numbers = {label for label in first if isinstance(label, int)}
        listed = self.class_list and _lines(
            inside(self._folder, self.class_list, "--class-list"), bool(numbers)
        )
        if self.task == "multilabel":
            refuse_vectors(((self._where(sample), sample.labels) for sample in found), len(listed))
        self._how = self.class_list or "names as found"
        if listed:
            return tuple(listed)
        if not first:
            raise DataError(
                f"{self.root}: no sample has a label; name the right member with --label-member or "
                f"--label-field"
            )
        if numbers:
            refuse_gaps(numbers, self.root)
            absent = sorted(set(range(max(numbers))) - numbers)
            more = f", of which {', '.join(map(str, absent[:10]))} on no image" if absent else ""
            self._how = f"numbers 0 to {max(numbers):,}{more}"
            return tuple(map(str, range(max(numbers) + 1)))
        names = sorted(map(str, first))
        return tuple(sorted(names, key=int) if all(name.isdecimal() for name in names) else names)

    def _where(self, sample: _Found) -> str:
        return f"{sample.shard}: sample {sample.key}.{self._member}"

    def describe(self) -> list[str]:
        """Say from which members labels are, and what names the classes."""
        key = f", key {self.label_field or OWN_FIELD!r}" if self._member.endswith("json") else ""
        number = "a list of classes" if self.task == "multilabel" else "one class"
        lines = [f"labels: members .{self._member}{key}, {number} each", f"classes: {self._how}"]
        if any(sample.ignored for found in self._found.values() for sample in found):
            of = f"members .{self._member}, key {IGNORED_FIELD!r}, a list of classes each"
            lines.append(f"ignored: {of}")
        return lines

    def _number(self, label: Label, sample: _Found) -> int:
        if isinstance(label, int) and label < len(self.class_names):
            return label
        if isinstance(label, str) and label in self._index:
            return self._index[label]
        raise DataError(
            f"{sample.shard}: sample {sample.key}: {label!r} is not one of the "
            f"{count_of(len(self.class_names), 'class')} of {self.class_list}, numbered from 0; "
            "add it there"
        )


def _tars(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.tar") if not is_junk(path.name))


def _listed(sample: ForeignSample) -> str:
    return ", ".join(f".{suffix}" for suffix in sample.members)


def _lines(path: Path, counted: bool) -> list[str]:
    """Read a class's name per line. `counted`: labels are numbers of lines, so none inside may be
    empty.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_LIST_BYTES + 1)
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); give a text file with --class-list"
        ) from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is no UTF-8 text; give a class's name per line") from None
    if len(raw) > _MAX_LIST_BYTES:
        raise DataError(
            f"{path} has more than {_MAX_LIST_BYTES:,} bytes; give a list of classes with "
            f"--class-list"
        )
    lines = [tidy(line) for line in text.strip().splitlines()]
    if not any(lines):
        raise DataError(
            f"{path} lists no class; write a class's name per line, or leave --class-list out"
        )
    if counted and (text[0] in "\r\n" or not all(lines)):
        raise DataError(
            f"{path} has an empty line, and class numbers count lines from 0; remove or fill it"
        )
    return [line for line in lines if line]
