"""Text of strangers as characters: the encoding that a file declares, or says by its first bytes,
or UTF-8.
"""

import codecs
import re
from pathlib import Path

from shards.errors import DataError

_BOMS = (  # the longer ones first: UTF-32 starts as UTF-16 does
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_DECLARED = re.compile(rb"""\s*<\?xml[^>]*?\sencoding\s*=\s*["']([^"'>]{1,40})["']""")
_WIDER = {  # what programs write under these names: a set that holds the declared one and more
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "big5": "big5hkscs",
    "euc_kr": "cp949",
}
_CALLED = {
    "x-sjis": "cp932",
    "windows-31j": "cp932",
    "x-gbk": "gb18030",
    "x-euc-jp": "euc_jp",
    "gb_2312-80": "gb18030",
}
# of whole files
_NO_ENCODINGS = ("idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape", "utf-7")
LOST = "\ufffd"  # replaces bytes that are no character


def xml_text(raw: bytes, path: Path) -> tuple[str, str]:
    """Return (text, encoding) of an XML file. Bytes that are no character there become LOST, for
    the caller to judge.

    Raises DataError where the encoding that it declares is unknown.
    """
    marked = _marked(raw)
    if marked is not None:
        return marked
    # no mark: then the declaration is in UTF-16 too
    for start, name in ((b"<\0", "utf-16-le"), (b"\0<", "utf-16-be")):
        if raw.startswith(start):
            return raw.decode(name, "replace"), name
    found = _DECLARED.match(raw)
    declared = found[1].decode("ascii", "replace").strip() if found else "utf-8"
    name = _codec(declared, path)
    for attempt in (name, _WIDER.get(name, name)):
        try:
            return _printable(raw.decode(attempt), raw, attempt), declared
        except UnicodeDecodeError:
            continue
    return raw.decode(name, "replace"), declared


def plain_text(raw: bytes, path: Path) -> str:
    """Return the text of a list or table: UTF-8, or what its byte order mark says. Raises
    DataError.
    """
    found = _marked(raw)
    try:
        text = found[0] if found else raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: is no UTF-8 text (byte 0x{raw[error.start]:02x}); save it as UTF-8"
        ) from None
    if LOST in text or "\0" in text:
        raise DataError(f"{path} is no UTF-8 text; save it as UTF-8")
    return text


def _marked(raw: bytes) -> tuple[str, str] | None:
    for mark, name in _BOMS:
        if raw.startswith(mark):
            return raw[len(mark) :].decode(name, "replace"), name
    return None


def _codec(declared: str, path: Path) -> str:
    """Find Python's name of an encoding."""
    try:
        codec = codecs.lookup(_CALLED.get(declared.lower(), declared))
        # zlib would unpack whatever it is given, punycode would take hours
        if not codec._is_text_encoding or codec.name in _NO_ENCODINGS:
            raise LookupError(declared)
    except (LookupError, UnicodeError, ValueError):
        raise DataError(
            f"{path} declares the encoding {declared!r}, which is unknown; save it as UTF-8 and "
            f"declare that"
        ) from None
    # but the declaration was read byte by byte: programs of Windows
    if codec.name.startswith(("utf-16", "utf-32")):
        return "utf-8"
    return codec.name


def _printable(text: str, raw: bytes, name: str) -> str:
    """Take ISO 8859-1 for Windows-1252 where it has control characters: nobody writes these, many
    write that.
    """
    if name == "iso8859-1" and re.search("[\x80-\x9f]", text):
        return raw.decode("cp1252")
    return text
