"""Refuse names of classes that are almost surely a mistake of reading labels, or ask about them.

Names are kept and compared in Unicode's form NFC, so that a name typed on one system is the same on
any other.
"""

import unicodedata
from collections.abc import Sequence

from preprocess.reading.class_name_checks import odd_names
from shards.errors import DataError

_REMEDIES = {
    "csv": "say with --label-separator, --label-column or --task how the table holds its labels",
    "webdataset": "say with --label-member or --label-field where the labels are",
    "imagefolder": "rename the folders, or give another --root",
    "coco": "rename the categories in the JSON",
    "voc": "rename the classes in the lists or annotations",
    "yolo": "rename the classes in data.yaml",
    "hf": "say with --label-column or --label-columns which columns hold the labels",
    "openimages": "name the table of names with --descriptions",
}
_SPLIT_REMEDIES = {
    "csv": "name the column of the labels with --label-column, and that of the splits with --split-column",
    "imagefolder": "put a folder per class into each of them, or give another --root",
}


def normal_form(name: str) -> str:
    """Write a name in Unicode's form NFC."""
    return unicodedata.normalize("NFC", name)


def tidy(name: str) -> str:
    """Write a name of a class in one way: Unicode's form NFC, single spaces, none around it."""
    return " ".join(normal_form(name).split())


def questions(names: Sequence[str], source: str, accepted: bool) -> list[str]:
    """Return a line for each kind of name that may be a mistake. Raises DataError for what almost
    surely is one.

    `accepted`: the user has said that the names are meant, so there is neither line nor error.
    """
    if accepted:
        return []
    remarks = list(odd_names(names))
    for remark in remarks:
        if remark.certain:
            remedy = (_SPLIT_REMEDIES if remark.about_splits else _REMEDIES).get(source)
            raise DataError(
                f"--source {source}: {remark.text}; {remedy or 'correct the names'}, or pack them "
                "as they are with --accept-class-names"
            )
    return [f"please check: {remark.text}; {remark.ask}?" for remark in remarks]
