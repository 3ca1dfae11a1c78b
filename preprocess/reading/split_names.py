"""Which words in the name of a folder, a file or a column tell a split."""

import re
from collections.abc import Sequence

SPLITS = {  # what folders and files are called, and the split they hold, in the order of packing
    "train": "train",
    "training": "train",
    "trn": "train",
    "trainval": "trainval",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "validate": "val",
    "validating": "val",
    "dev": "val",
    "devel": "val",
    "development": "val",
    "eval": "val",
    "evaluation": "val",
    "test": "test",
    "tests": "test",
    "testing": "test",
    "tst": "test",
}
# What may be beside such a word without a meaning of its own: train_set, ValImages, seg_test,
# test1, split-train.
_NEUTRAL = frozenset({
    "set", "sets", "data", "dataset", "datasets", "ds", "split", "splits", "seg", "final",
    "image", "images", "img", "imgs", "pic", "pics", "picture", "pictures", "photo", "photos",
    "sample", "samples", "file", "files", "folder", "dir", "class", "classes", "classification",
    "labeled", "labelled",
})  # fmt: skip

_COMPOUND = re.compile(f"({'|'.join(SPLITS)})({'|'.join(_NEUTRAL)})")


def split_named(name: str) -> str | None:
    """Find the split that a name says and nothing else: `Training`, `seg_train`, `ValImages`,
    `test1`.
    """
    found = words(name)
    return (
        _only([word for word in found if word in SPLITS])
        if set(found) <= SPLITS.keys() | _NEUTRAL
        else None
    )


def only_neutral(name: str) -> bool:
    """Tell a name such as `images` or `data`, which folders of photographs have whatever is in
    them.
    """
    found = words(name)
    return bool(found) and set(found) <= _NEUTRAL


def split_of(name: str) -> str | None:
    """Find the split that a name such as `instances_train2017` or `imagenet-val-0007` tells; None
    where none.
    """
    found = [word for word in words(name) if word in SPLITS]
    return (_only(found[-2:]) or SPLITS[found[-1]]) if found else None


def splits_among(names: Sequence[str]) -> dict[str, str]:
    """Map the names that are splits to them: by what they say, or as one of several, birds_train
    and birds_test.
    """
    told = {name: split for name in names if (split := split_of(name))}
    alike: dict[tuple[str, ...], set[str]] = {}
    for name, split in told.items():
        alike.setdefault(_rest(name), set()).add(split)
    return {
        name: split
        for name, split in told.items()
        if split_named(name) or len(alike[_rest(name)]) > 1
    }


def words(name: str) -> list[str]:
    """Take a name apart: `ValImages`, `val_images` and `valimages2` are val and images."""
    parted = re.sub(r"([a-z])([A-Z])|([A-Z])([A-Z][a-z])", r"\1\3 \2\4", name)
    return [part for word in re.findall(r"[^\W\d_]+", parted.lower()) for part in _compound(word)]


def _compound(word: str) -> tuple[str, ...]:
    """Part `trainset` and `testimages`; any other word stays as it is."""
    found = None if word in SPLITS else _COMPOUND.fullmatch(word)
    return found.groups() if found else (word,)


def _rest(name: str) -> tuple[str, ...]:
    return tuple(word for word in words(name) if word not in SPLITS)


def _only(found: Sequence[str]) -> str | None:
    """Return the one split that words say; train and val together are trainval."""
    splits = {SPLITS[word] for word in found}
    if splits == {"train", "val"}:
        return "trainval"
    return splits.pop() if len(splits) == 1 else None


def in_split_order(splits: Sequence[str]) -> tuple[str, ...]:
    """Put train before val before test, others behind by name."""
    usual = [split for split in dict.fromkeys(SPLITS.values()) if split in splits]
    return (*usual, *sorted(set(splits).difference(usual)))
