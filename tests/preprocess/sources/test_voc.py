"""The VOC source: counts of the real lists, tolerance of form, and one line for every fault."""

import pytest

from preprocess.sources.voc import OFFICIAL_CLASSES, VOC
from shards.errors import DataError

LISTS = {
    "train": "a\nb\nc\n",
    "val": "d\n",
    "cat_train": "a  1\nb -1\nc  0\n",
    "dog_train": "a  1\nb  0\nc -1\n",
    "cat_val": "d -1\n",
    "dog_val": "d 1\n",
}
XML = "<annotation>{}</annotation>"
OBJECT = "<object><name>{}</name><difficult>{}</difficult><part><name>head</name></part></object>"


def make_voc(root, lists=LISTS, annotations=None, images=("a.jpg", "b.jpg", "c.jpg", "d.jpg")):
    for folder in ("ImageSets/Main", "JPEGImages", "Annotations"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for stem, text in lists.items():
        raw = text if isinstance(text, bytes) else text.encode()
        (root / "ImageSets/Main" / f"{stem}.txt").write_bytes(raw)
    for name in images:
        (root / "JPEGImages" / name).write_bytes(b"")
    for image_id, text in (annotations or {}).items():
        (root / "Annotations" / f"{image_id}.xml").write_bytes(
            text if isinstance(text, bytes) else text.encode()
        )
    return root


def labels(source, split="train"):
    return [(record.name, record.labels, record.ignored) for record in source.records(split)]


def message(call):
    with pytest.raises(DataError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize(
    ("difficult", "b", "c"),
    [
        ("ignore", ((), (1,)), ((), (0,))),
        ("positive", ((1,), ()), ((0,), ())),
        ("negative", ((), ()), ((), ())),
    ],
)
def test_class_lists(tmp_path, difficult, b, c):
    source = VOC(make_voc(tmp_path), difficult)
    assert source.class_names == ("cat", "dog")
    assert source.splits() == ("train", "val")
    assert labels(source) == [("a", (0, 1), ()), ("b", *b), ("c", *c)]
    first = source.records("train")[0]
    assert first.source == "JPEGImages/a.jpg"
    assert first.path == tmp_path / "JPEGImages" / "a.jpg"


def test_form_of_lists_is_free(tmp_path):
    plain = labels(VOC(make_voc(tmp_path / "plain")))
    messy = dict(LISTS)
    messy["train"] = b"\xef\xbb\xbfa\r\n\r\n b \r\nc"
    messy["cat_train"] = b"\xef\xbb\xbfa\t 1 \r\n\r\nb\t-1\r\nc\t0"
    assert labels(VOC(make_voc(tmp_path / "messy", messy))) == plain


def test_without_master_lists_the_first_class_list_gives_the_order(tmp_path):
    source = VOC(make_voc(tmp_path, {stem: text for stem, text in LISTS.items() if "_" in stem}))
    assert source.splits() == ("train", "val")
    assert labels(source) == [("a", (0, 1), ()), ("b", (), (1,)), ("c", (), (0,))]


def test_a_class_list_in_another_order_is_refused(tmp_path):
    root = make_voc(tmp_path, LISTS | {"dog_train": "c -1\nb 0\na 1\n"})
    with pytest.raises(
        DataError, match=r"dog_train\.txt:1: 'c' is where the other lists .* have 'a'"
    ):
        VOC(root).records("train")


def test_class_named_like_a_split(tmp_path):
    source = VOC(
        make_voc(tmp_path, {"train": "a\n", "train_train": "a 1\n", "x_y_train": "a -1\n"})
    )
    assert source.class_names == ("train", "x_y")
    assert source.splits() == ("train",)
    assert labels(source) == [("a", (0,), ())]


def test_splits_go_by_what_is_there(tmp_path):
    source = VOC(
        make_voc(tmp_path, {"test": "a\n", "trainval": "b\n", "mine": "c\n", "cat_mine": "c 1\n"})
    )
    assert source.splits() == ("trainval", "test", "mine")


def test_other_image_suffixes(tmp_path):
    root = make_voc(tmp_path, images=("a.jpg", "a.png", "b.JPG", "c.png", "d.jpeg"))
    sources = [record.source for record in VOC(root).records("train")]
    assert sources == ["JPEGImages/a.jpg", "JPEGImages/b.JPG", "JPEGImages/c.png"]
    root = make_voc(tmp_path / "more", images=("a.Jpg", "a.bmp", "b.tiff", "c.gif", "c.xml", "a.b"))
    sources = [record.source for record in VOC(root).records("train")]
    assert sources == ["JPEGImages/a.Jpg", "JPEGImages/b.tiff", "JPEGImages/c.gif"]


@pytest.mark.parametrize(
    ("difficult", "c"),
    [
        ("ignore", ((OFFICIAL_CLASSES.index("cat"),), (OFFICIAL_CLASSES.index("dog"),))),
        ("negative", ((7,), ())),
    ],
)
def test_annotations_where_lists_are_missing(tmp_path, difficult, c):
    annotations = {
        "a": XML.format(""),
        "b": XML.format("<object><name> dog </name></object>" + OBJECT.format("dog", 1)),
        "c": XML.format(OBJECT.format("cat", 0) + OBJECT.format("dog", 1)),
    }
    source = VOC(make_voc(tmp_path, {"train": "a\nb\nc\n"}, annotations), difficult)
    assert source.class_names == OFFICIAL_CLASSES
    assert labels(source) == [("a", (), ()), ("b", (OFFICIAL_CLASSES.index("dog"),), ()), ("c", *c)]


def test_annotations_with_classes_of_their_own(tmp_path):
    annotations = {"a": XML.format(OBJECT.format("zebra", 0) + OBJECT.format("cat", 0))}
    assert VOC(make_voc(tmp_path, {"train": "a\n"}, annotations)).class_names == ("cat", "zebra")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cat_train": "a 1\nb -1\n"}, ["cat_train.txt lacks 1 of the 3", "'c'"]),
        ({"cat_train": "a 1\nb -1\nc 0\nd 1\n"}, ["cat_train.txt:4", "'d'", "no other list"]),
        ({"cat_train": "a 1\nb -1\nc 0\na 1\n"}, ["cat_train.txt:4", "'a'", "line 1 already"]),
        ({"cat_train": "a 1\nb 2\nc 0\n"}, ["cat_train.txt:2", "'2'", "use 1, 0 or -1"]),
        (
            {"cat_train": "a 1\nb\nc 0\n"},
            ["cat_train.txt:2", "expected an image id and 1, 0 or -1", "'b'"],
        ),
        ({"cat_train": ""}, ["cat_train.txt lacks 3"]),
        ({"train": "a\nb\nc\nb\n"}, ["train.txt:4", "'b'", "line 2 already"]),
        ({"train": "a 1\n"}, ["train.txt:1", "expected one image id", "'a 1'"]),
        ({"train": "\r\n\n"}, ["train.txt lists no image", "'train' is empty"]),
        ({"train": "../../x\n"}, ["train.txt:1", "'../../x'", "is a path"]),
        ({"train": "a\\b\n"}, ["train.txt:1", "is a path"]),
        ({"train": "..\n"}, ["train.txt:1", "is a path"]),
    ],
)
def test_faults_of_lists(tmp_path, changes, words):
    source = VOC(make_voc(tmp_path, LISTS | changes))
    text = message(lambda: source.records("train"))
    assert all(word in text for word in words), text


def test_missing_class_list(tmp_path):
    lists = {stem: text for stem, text in LISTS.items() if stem != "dog_val"}
    source = VOC(make_voc(tmp_path, lists))
    assert "dog_val.txt is missing" in message(lambda: source.records("val"))


def test_missing_image(tmp_path):
    source = VOC(make_voc(tmp_path, images=("a.jpg", "c.jpg")))
    text = message(lambda: source.records("train"))
    assert "b.jpg is missing" in text
    assert "'train'" in text


def test_unknown_split_names_those_there_are(tmp_path):
    source = VOC(make_voc(tmp_path))
    text = message(lambda: source.records("test"))
    assert "'test'" in text
    assert "train, val" in text


def test_unknown_difficult_option(tmp_path):
    assert "'maybe'" in message(lambda: VOC(make_voc(tmp_path), "maybe"))


def test_wrong_roots(tmp_path):
    make_voc(tmp_path / "VOCdevkit" / "VOC2012")
    for root in (tmp_path, tmp_path / "VOCdevkit"):
        assert f"use {tmp_path / 'VOCdevkit' / 'VOC2012'}" in message(lambda root=root: VOC(root))
    assert "is not a folder" in message(lambda: VOC(tmp_path / "nowhere"))
    (tmp_path / "bare" / "JPEGImages").mkdir(parents=True)
    assert "ImageSets/Main is missing" in message(lambda: VOC(tmp_path / "bare"))
    make_voc(tmp_path / "no-lists", {})
    assert "holds no list" in message(lambda: VOC(tmp_path / "no-lists"))


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotation>&b;</annotation>'


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (BOMB, "<!DOCTYPE"),
        (BOMB.encode("utf-16"), "<!DOCTYPE"),
        ("<annotation><object>", "is no XML"),
        (XML.format("<object/>"), "object 1 has no name"),
        (XML.format(OBJECT.format("cat", 7)), "difficult='7'"),
        (" " * (5 << 20), "more than"),
    ],
)
def test_faults_of_annotations(tmp_path, text, word):
    root = make_voc(tmp_path, {"train": "a\n"}, {"a": text})
    found = message(lambda: VOC(root))
    assert word in found
    assert "a.xml" in found


def test_missing_annotation(tmp_path):
    assert "a.xml cannot be read" in message(lambda: VOC(make_voc(tmp_path, {"train": "a\n"})))


def test_annotation_with_a_class_that_no_list_has(tmp_path):
    lists = {"train": "a\n", "cat_train": "a 1\n", "val": "d\n"}
    source = VOC(make_voc(tmp_path, lists, {"d": XML.format(OBJECT.format("cow", 0))}))
    assert "'cow'" in message(lambda: source.records("val"))


def test_annotation_in_latin_1_is_read(tmp_path):
    raw = XML.format("<owner>Ren\u00e9</owner>" + OBJECT.format("cat", 0)).encode("latin-1")
    assert labels(VOC(make_voc(tmp_path, {"train": "a\n"}, {"a": raw}))) == [("a", (7,), ())]


def test_real_photographs_match_their_lists(voc2012_root):
    source = VOC(voc2012_root)
    assert source.class_names == OFFICIAL_CLASSES
    assert source.splits() == ("train", "val")
    for split in source.splits():
        records = source.records(split)
        master = (voc2012_root / "ImageSets/Main" / f"{split}.txt").read_text().split()
        assert [record.name for record in records] == master
        for index, name in enumerate(source.class_names):
            listed = (
                (voc2012_root / "ImageSets/Main" / f"{name}_{split}.txt").read_text().split()[1::2]
            )
            assert sum(index in record.labels for record in records) == listed.count("1")
            assert sum(index in record.ignored for record in records) == listed.count("0")


def test_a_split_without_annotations_may_be_left_out(tmp_path):
    annotated = {
        "a": "<annotation><object><name>gnu</name></object></annotation>",
        "b": "<annotation/>",
    }
    source = VOC(make_voc(tmp_path, {"train": "a\nb\n", "test": "c\nd\n"}, annotated))
    assert source.class_names == ("gnu",)
    assert labels(source) == [("a", (0,), ()), ("b", (), ())]
    says = message(lambda: source.records("test"))
    assert says.endswith("c.xml cannot be read (No such file or directory); restore it")
    empty = make_voc(tmp_path / "empty", {"train": "a\nb\n", "test": "c\nd\n"})
    assert "a.xml cannot be read" in message(lambda: VOC(empty))
