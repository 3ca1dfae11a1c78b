"""VOC annotations and lists that are not UTF-8: the encoding they declare is honoured, what is lost
is refused.
"""

import unicodedata
from pathlib import Path

import pytest

from preprocess.sources.voc import VOC
from shards.errors import DataError
from tests.conftest import jpeg, photograph
from tests.preprocess.commands import shard

CHINESE = ("猫", "狗", "鸟")
JAPANESE = ("猫", "犬", "鳥")
FRENCH = ("abeille", "éléphant", "œuf")


def xml(name: str, encoding: str | None, more: str = "") -> str:
    declared = f' encoding="{encoding}"' if encoding else ""
    return (
        f'<?xml version="1.0"{declared}?>\n<annotation>{more}<object><name> {name}\n</name>'
        "<difficult>0</difficult></object></annotation>"
    )


def folder(root: Path, annotations: list[bytes], lists: dict[str, bytes] | None = None) -> Path:
    """Write a VOC folder of one photograph per annotation, all in split train."""
    for name in ("ImageSets/Main", "JPEGImages", "Annotations"):
        (root / name).mkdir(parents=True, exist_ok=True)
    ids = [f"{number:06d}" for number in range(len(annotations))]
    for number, (image_id, content) in enumerate(zip(ids, annotations, strict=True)):
        (root / f"JPEGImages/{image_id}.jpg").write_bytes(jpeg(photograph(32, 24, number)))
        (root / f"Annotations/{image_id}.xml").write_bytes(content)
    for name, content in (lists or {"train": "\n".join(ids).encode()}).items():
        (root / f"ImageSets/Main/{name}.txt").write_bytes(content)
    return root


def read(root: Path) -> list[set[str]]:
    source = VOC(root)
    return [
        {source.class_names[label] for label in record.labels} for record in source.records("train")
    ]


@pytest.mark.parametrize(
    ("names", "declared", "written"),
    [
        (CHINESE, "gb2312", "gb2312"),
        (CHINESE, "GB2312", "gbk"),
        (("猫", "貓", "鳥"), "gb2312", "gbk"),  # traditional characters: in GBK, not in GB 2312
        (("猫", "㐀", "𠀀"), "gbk", "gb18030"),
        (CHINESE, "gbk", "gbk"),
        (CHINESE, "GB18030", "gb18030"),
        (CHINESE, "cp936", "gbk"),
        (("貓", "狗", "鳥"), "big5", "big5"),
        (("貓", "狗", "嘅"), "Big5", "big5hkscs"),
        (JAPANESE, "Shift_JIS", "shift_jis"),
        (("猫", "①", "髙"), "shift_jis", "cp932"),
        (JAPANESE, "x-sjis", "cp932"),
        (JAPANESE, "euc-jp", "euc_jp"),
        (("고양이", "개", "새"), "euc-kr", "euc_kr"),
        (("고양이", "똠", "펲"), "EUC-KR", "cp949"),
        (FRENCH[:2], "ISO-8859-1", "latin-1"),
        (FRENCH, "iso-8859-1", "cp1252"),
        (FRENCH, "windows-1252", "cp1252"),
        (("кошка", "собака"), "windows-1251", "cp1251"),
        (("кошка", "собака"), "koi8-r", "koi8_r"),
        (CHINESE, "utf-8", "utf-8"),
        (CHINESE, "UTF-8", "utf-8-sig"),
        (CHINESE, None, "utf-8"),
        (CHINESE, None, "utf-8-sig"),
        (CHINESE, "utf-16", "utf-16"),
        (CHINESE, "utf-16", "utf-16-le"),
        (CHINESE, "utf-16", "utf-16-be"),
        (CHINESE, None, "utf-16"),
        (CHINESE, "utf-32", "utf-32"),
        # as programs of Windows declare what they then write as UTF-8
        (CHINESE, "utf-16", "utf-8"),
        (CHINESE, "gb2312", "utf-8-sig"),  # the byte order mark is surer than the declaration
    ],
)
def test_the_declared_encoding_is_honoured(tmp_path, names, declared, written):
    annotations = [xml(name, declared).encode(written) for name in names]
    assert read(folder(tmp_path, annotations)) == [{name} for name in names]


def test_single_quotes_and_spaces_in_the_declaration(tmp_path):
    text = xml("猫", None).replace(
        'version="1.0"', "version = '1.0'  encoding = 'gbk' standalone='yes'"
    )
    assert read(folder(tmp_path, [text.encode("gbk")])) == [{"猫"}]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            xml("狗", "utf-8").encode("gbk"),
            "the name of object 1 is no text in utf-8, the encoding of this file",
        ),
        (xml("狗", None).encode("gbk"), "the name of object 1 is no text in utf-8"),
        (xml("éléphant", "utf-8").encode("latin-1"), "the name of object 1 is no text in utf-8"),
        (xml("éléphant", "ascii").encode("latin-1"), "no text in ascii"),
        (xml("猫\ufffd", "utf-8").encode(), "no text in utf-8"),
        (xml("猫", "utf-16").encode("utf-16")[:-1], "000000.xml"),
        (xml("猫", "klingon").encode(), "declares the encoding 'klingon', which is unknown"),
        (xml("猫", "zlib").encode(), "declares the encoding 'zlib', which is unknown"),
        (xml("cat", "punycode").encode(), "declares the encoding 'punycode', which is unknown"),
        (xml("cat", "undefined").encode(), "declares the encoding 'undefined', which is unknown"),
        (xml("cat", "../../x").encode(), "declares the encoding '../../x', which is unknown"),
    ],
    ids=range(11),
)
def test_what_is_no_text_is_refused(tmp_path, monkeypatch, capsys, content, says):
    folder(tmp_path / "in", [content])
    args = ["--source", "voc", "--root", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    status, _, errors = shard(monkeypatch, capsys, *args)
    assert (status, errors.count("\n")) == (2, 1)
    assert says in errors
    assert "000000.xml" in errors
    assert not (tmp_path / "out").exists()


def test_what_nobody_reads_may_be_in_another_encoding(tmp_path):
    content = xml("cat", "utf-8", more="<owner>Ren\u00e9</owner>").encode("latin-1")
    assert read(folder(tmp_path, [content])) == [{"cat"}]


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>'


@pytest.mark.parametrize(
    "encoding", ["utf-8", "gbk", "shift_jis", "latin-1", "utf-16", "utf-16-le", "utf-32", "utf-7"]
)
def test_no_encoding_hides_an_entity(tmp_path, encoding):
    declared = encoding.removesuffix("-le")
    text = f'<?xml version="1.0" encoding="{declared}"?>{BOMB}<annotation>&b;</annotation>'
    with pytest.raises(DataError, match=r"holds <!DOCTYPE|which is unknown"):
        read(folder(tmp_path, [text.encode(encoding)]))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "<doc><object><name>cat</name></object></doc>",
            "starts with <doc>: it is no annotation in the form of VOC",
        ),
        (
            "<annotation><objects><object><name>cat</name></object></objects></annotation>",
            "has its objects deeper",
        ),
    ],
)
def test_another_form_of_xml_is_not_an_empty_image(tmp_path, text, says):
    with pytest.raises(DataError, match=says):
        read(folder(tmp_path, [text.encode()]))


def test_a_namespace_hides_no_object(tmp_path):
    text = xml("cat", "utf-8").replace(
        "<annotation>", '<annotation xmlns="http://example.org/voc">'
    )
    assert read(folder(tmp_path, [text.encode()])) == [{"cat"}]


def test_two_unicode_forms_are_one_class(tmp_path):
    forms = [unicodedata.normalize(form, "éléphant  d'Asie") for form in ("NFC", "NFD")]
    assert (
        read(folder(tmp_path, [xml(form, "utf-8").encode() for form in forms]))
        == [{"éléphant d'Asie"}] * 2
    )


def test_class_lists_in_two_unicode_forms(tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    image = xml("x", None).encode()
    lists = {
        "train": b"000000\n",
        "val": b"000001\n",
        f"{nfc}_train": b"000000 1\n",
        f"{nfd}_val": b"000001 1\n",
    }
    source = VOC(folder(tmp_path / "a", [image] * 2, lists))
    assert source.class_names == (nfc,)
    assert [record.labels for split in ("train", "val") for record in source.records(split)] == [
        (0,),
        (0,),
    ]
    with pytest.raises(DataError, match="are lists of one class, spelled in two Unicode forms"):
        VOC(folder(tmp_path / "b", [image] * 2, {**lists, f"{nfd}_train": b"000000 -1\n"}))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "ascii"])
def test_lists_with_a_byte_order_mark(tmp_path, encoding):
    image = xml("cat", None).encode()
    assert (
        read(folder(tmp_path, [image] * 2, {"train": "000000\r\n000001\r\n".encode(encoding)}))
        == [{"cat"}] * 2
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (
            "000000\nphoto_é\n".encode("latin-1"),
            r"train\.txt:2: is no UTF-8 text \(byte 0xe9\); save it as UTF-8",
        ),
        ("000000\n照片\n".encode("gbk"), r"train\.txt:2: is no UTF-8 text"),
        ("000000\n".encode("utf-16-le"), r"train\.txt is no UTF-8 text; save it as UTF-8"),
        ("000000\n".encode("utf-16")[:-1], r"train\.txt is no UTF-8 text"),
    ],
)
def test_lists_that_are_no_text(tmp_path, content, says):
    with pytest.raises(DataError, match=says):
        read(folder(tmp_path, [xml("cat", None).encode()], {"train": content}))


def test_describe_says_where_labels_are_from(tmp_path):
    image = xml("cat", None).encode()
    lists = {"train": b"000000\n", "val": b"000001\n", "cat_train": b"000000 1\n"}
    lines = VOC(folder(tmp_path, [image] * 2, lists)).describe()
    assert lines == [
        "labels of train: from the lists ImageSets/Main/CLASS_SPLIT.txt",
        "labels of val: from the objects in Annotations",
    ]
