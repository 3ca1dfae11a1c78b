"""Read the classes of the objects in a VOC annotation, in any encoding."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

from preprocess.reading.class_names import tidy
from preprocess.reading.encodings import LOST, xml_text
from shards.errors import DataError

_MAX_XML_BYTES = 4 << 20  # the largest of VOC is 20 kB


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """Read a whole file. Raises DataError where it cannot be read, or has more bytes than
    `max_bytes`.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(max_bytes + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}); restore it") from None
    if len(raw) > max_bytes:
        raise DataError(
            f"{path} has more than {max_bytes:,} bytes; it is not a VOC annotation, remove it"
        )
    return raw


def read_annotation(path: Path) -> dict[str, int]:
    """Return the classes in a VOC annotation: 1 where an object is not difficult, 0 where all are."""
    root, encoding = _parse(path)
    presence: dict[str, int] = {}
    for number, item in enumerate(root.findall("{*}object"), start=1):
        name = tidy(item.findtext("{*}name") or "")
        difficult = (item.findtext("{*}difficult") or "0").strip()
        if not name:
            raise DataError(f"{path}: object {number} has no name; add it")
        # a comment or an owner in another encoding matters to nobody, a class does
        if LOST in name:
            raise DataError(
                f"{path}: the name of object {number} is no text in {encoding}, the encoding of "
                f"this file; declare "
                'the right one in its first line, such as <?xml version="1.0" encoding="gb18030"?>, or save it as UTF-8'
            )
        if difficult not in ("0", "1"):
            raise DataError(
                f"{path}: object {number} ({name}) has difficult={difficult!r}; use 0 or 1"
            )
        presence[name] = max(presence.get(name, 0), 1 - int(difficult))
    return presence


def _parse(path: Path) -> tuple[ElementTree.Element, str]:
    """Return the annotation element of an XML file and the file's encoding.

    The file may come from a stranger: without a DTD there are no entities, so nothing expands and
    nothing else is opened. The check is on the decoded text that is then parsed, so another
    encoding cannot hide one.
    """
    text, encoding = xml_text(read_bytes(path, _MAX_XML_BYTES), path)
    for forbidden in ("<!DOCTYPE", "<!ENTITY"):
        if forbidden in text:
            raise DataError(f"{path} holds {forbidden}, which no VOC annotation needs; remove it")
    try:
        root = ElementTree.fromstring(text)
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{path} is no XML ({error}); restore it") from None
    kind = root.tag.rpartition("}")[2]
    if kind != "annotation" or (
        root.find("{*}object") is None and root.find(".//{*}object") is not None
    ):
        what = (
            f"starts with <{kind[:40]}>"
            if kind != "annotation"
            else "has its objects deeper than in <annotation>"
        )
        raise DataError(f"{path} {what}: it is no annotation in the form of VOC; convert it")
    return root, encoding
