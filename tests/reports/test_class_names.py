"""Class names that are really pieces of syntax, splits or the same name twice: refused, or asked
about.
"""

import unicodedata
from pathlib import Path

import pytest

from preprocess.reading.class_name_checks import odd_names
from preprocess.reading.class_names import questions
from preprocess.sources.cifar10 import OFFICIAL_CLASSES as CIFAR
from preprocess.sources.planet import TAGS
from preprocess.sources.voc import OFFICIAL_CLASSES as VOC
from shards.errors import DataError
from shards.index import DatasetIndex
from tests.conftest import jpeg, photograph
from tests.preprocess.commands import shard

ORDINARY = [
    VOC,
    CIFAR,
    TAGS,
    (
        "hot dog",
        "traffic light",
        "T-shirt",
        "men's shoe",
        "N95 mask",
        "café",
        "naïve",
        "猫",
        "כלב",
        "قطة",
    ),
    ("0", "1", "2", "10", "11"),
    ("1-1", "1-0", "10", "11"),
    ("mouse (animal)", "mouse (device)", "crab_(animal)"),
    ("indoor/outdoor", "R&B", "C++", "A+", "A-", "A", "/m/01yrx", "n02085620-Chihuahua"),
    ("train_station", "airport", "test_tube"),
    ("train", "car", "bus"),
    ("valid", "invalid"),
    ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "cat", "\U0001f469\u200d\U0001f680"),
]


@pytest.mark.parametrize("names", ORDINARY, ids=lambda names: names[0])
def test_ordinary_names_pass_without_a_word(names):
    assert list(odd_names(names)) == []


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("['cat',", "'dog']"), "look like pieces of a list"),
        (('["cat"', '"dog"]', "bird"), "look like pieces of a list"),
        (("[1,", "0,", "0]"), "look like pieces of a list"),
        (("[0, 1]", "[1, 0]"), "look like pieces of a list"),
        (("{'cat'}", "dog"), "look like pieces of a list"),
        (("('cat',", "'dog')", "bird"), "look like pieces of a list"),
        (("cat,", "dog"), "'cat,': with a separator at the end"),
        (("|cat", "dog"), "with a separator at the end"),
        (("cat;", "dog"), "with a separator at the end"),
        (("cat|dog", "dog|bird"), "with '|' inside"),
        (("cat|dog", "cat", "dog"), "with '|' inside"),
        (("cat;dog", "bird;dog", "fox"), "with ';' inside"),
        (("cat,dog", "cat, bird", "dog,bird"), "with ',' inside"),
        (('"cat"', '"dog"'), "with quotes"),
        (("1 0 0", "0 1 0"), "lists of numbers"),
        (("0,1", "1,1"), "lists of numbers"),
        (("a.jpg", "b.PNG"), "names of files"),
        (("train", "test"), "are named like splits"),
        (("Training", "Testing"), "are named like splits"),
        (("Train", "cat", "Validation"), "are named like splits"),
        (("seg_train", "seg_test", "seg_pred"), "are named like splits"),
        (("birds_train", "birds_val"), "are named like splits"),
        (("train",), "named like splits"),
        (("images",), "'images' is the only class"),
        (("img_data",), "'img_data' is the only class"),
        (("ca\ufffd", "dog"), "with characters lost"),
        (("cat\tdog", "bird"), r"'cat\tdog': with control characters"),
        (("cat\x1b[2J", "bird"), "with control characters"),
        (
            ("cat", "cat\u200b"),
            r"'cat' and 'cat\u200b': the same but for characters that cannot be seen",
        ),
        (("hot dog", "hot\u00a0dog"), "the same but for characters that cannot be seen"),
        (("cat", "cat "), "the same but for characters that cannot be seen"),
    ],
)
def test_what_is_almost_surely_wrong_is_refused_with_the_flag_that_accepts_it(names, says):
    with pytest.raises(DataError) as caught:
        questions(names, "imagefolder", accepted=False)
    assert says in str(caught.value)
    assert "another --root" in str(caught.value)
    assert str(caught.value).endswith("--accept-class-names")
    assert str(caught.value).isprintable()
    assert questions(names, "imagefolder", accepted=True) == []


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (
            ("Cat", "cat", "dog"),
            "'Cat' and 'cat': differ only in upper and lower case; are they one class?",
        ),
        (("ﬁsh", "fish"), "'ﬁsh' and 'fish': differ only in their Unicode form"),
        (("hot dog", "hot_dog", "cat"), "differ only in case, spaces, hyphens or underscores"),
        (("hot dog", "hotdog", "cat"), "differ only in case, spaces, hyphens or underscores"),
        (("hot dog", "hot  dog", "cat"), "differ only in case, spaces, hyphens or underscores"),
        (("T-Shirt", "t shirt", "cat"), "differ only in case, spaces, hyphens or underscores"),
        (("cat ", "dog"), "'cat ': with spaces before or behind"),
        (("\ufeffcat", "dog"), r"'\ufeffcat': with characters that cannot be seen"),
        (("cat\u200f", "dog"), r"'cat\u200f': with characters that cannot be seen"),
        (("ca\u00adt", "dog"), r"'ca\xadt': with characters that cannot be seen"),
        (("ca\u200dt", "dog"), r"'ca\u200dt': with characters that cannot be seen"),
        (("hot\u00a0dog", "cat"), r"'hot\xa0dog': with characters that cannot be seen"),
        (("cafÃ©", "dog"), "'cafÃ©': as UTF-8 looks that was read as Windows-1252"),
        (("c\u0430t", "dog"), "Latin and Cyrillic letters in one word"),
        (("cat <old>", "dog"), "with brackets"),
        (("cat (", "dog"), "with brackets"),
        (("'cat'", "dog", "fox"), "with quotes"),
        (
            ("tench, Tinca tinca", "goldfish, Carassius auratus", "dog"),
            "with ',' inside, as between labels",
        ),
        (("cat|dog", "fox"), "with '|' inside"),
        (("0.5", "1.25"), "numbers with a fraction; are they classes, or measured values?"),
        (("nan", "cat"), "'nan': as missing values are written; is it a class?"),
        (("val", "cat"), "'val' is named like the split val; is it a class?"),
        (("train", "cat", "dog"), "'train' is named like the split train"),
        (("a " * 60, "cat"), "of more than 100 characters"),
        (("cat",), "'cat' is the only class"),
        (("0",), "'0' is the only class"),
        (("caf\\u00e9", "dog"), "with escapes"),
        (("R&amp;B", "dog"), "with escapes"),
        (("caf%C3%A9", "dog"), "with escapes"),
        (("cat:0.9", "dog: 1"), "with a number behind, as a score or box"),
    ],
)
def test_what_may_be_meant_is_asked(names, says):
    asked = questions(names, "csv", accepted=False)
    assert any(line.startswith("please check: ") and says in line for line in asked), asked
    assert all(line.isprintable() and line.endswith("?") for line in asked)
    assert questions(names, "csv", accepted=True) == []


def test_a_line_about_many_names_is_short():
    names = [f"class {number} ({'x' * 80}" for number in range(1000)]
    (line,) = questions(names, "csv", accepted=False)
    assert "and 997 more" in line
    assert len(line) < 300


def write(root: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        folder = root / name
        folder.mkdir(parents=True)
        (folder / f"{number}.jpg").write_bytes(jpeg(photograph(20, 20, number)))
    return root


def test_the_packer_asks_and_packs(tmp_path, monkeypatch, capsys):
    root = write(tmp_path / "in", "Cat", "cat", "dog ")
    args = ["--source", "imagefolder", "--root", str(root), "--out", str(tmp_path / "out")]
    status, told, errors = shard(monkeypatch, capsys, *args)
    assert status == 0, errors
    assert (
        "please check: classes 'Cat' and 'cat': differ only in upper and lower case; are they one "
        "class?" in told
    )
    assert "please check: class 'dog ': with spaces before or behind; are they meant?" in told
    status, told, _ = shard(monkeypatch, capsys, *args, "--accept-class-names")
    assert (status, "please check" in told) == (0, False)


def test_the_packer_refuses_before_it_writes_and_packs_what_is_accepted(
    tmp_path, monkeypatch, capsys
):
    root = write(tmp_path / "in", "train", "Testing")
    args = ["--source", "imagefolder", "--root", str(root), "--out", str(tmp_path / "out")]
    status, told, errors = shard(monkeypatch, capsys, *args)
    assert (status, told, errors.count("\n")) == (2, "", 1)
    assert (
        "classes 'Testing', 'train' are named like splits; put a folder per class into each of them"
        in errors
    )
    assert not (tmp_path / "out").exists()
    assert shard(monkeypatch, capsys, *args, "--accept-class-names")[0] == 0
    assert DatasetIndex.open(tmp_path / "out/all").class_names == ("Testing", "train")


OWN = """
from preprocess.record import Record, Source

class Own(Source):
    class_names = NAMES
    def __init__(self, root):
        self.root = root
    def splits(self):
        return ("train",)
    def records(self, split):
        paths = sorted(self.root.glob("*/*.jpg"))
        return [Record(p.stem, p, p.name, (n,), ((n + 1) % 3,)) for n, p in enumerate(paths)]
"""


def test_a_users_own_source_is_looked_at_too(tmp_path, monkeypatch, capsys):
    write(tmp_path / "in", "a", "b", "c")
    (tmp_path / "odd_names.py").write_text(OWN.replace("NAMES", "('cat|dog', 'dog|fox', 'fox')"))
    monkeypatch.syspath_prepend(str(tmp_path))
    args = [
        "--source",
        "odd_names:Own",
        "--root",
        str(tmp_path / "in"),
        "--out",
        str(tmp_path / "out"),
    ]
    status, _, errors = shard(monkeypatch, capsys, *args)
    assert (status, "with '|' inside" in errors) == (2, True)
    assert not (tmp_path / "out").exists()


def test_names_are_kept_in_one_unicode_form_and_what_is_then_the_same_is_one_class(
    tmp_path, monkeypatch, capsys
):
    write(tmp_path / "in", "a", "b", "c")
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    (tmp_path / "two_forms.py").write_text(
        OWN.replace("NAMES", repr((composed, "dog", apart))), encoding="utf-8"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    args = [
        "--order",
        "source",
        "--source",
        "two_forms:Own",
        "--root",
        str(tmp_path / "in"),
        "--out",
        str(tmp_path / "out"),
    ]
    status, told, errors = shard(monkeypatch, capsys, *args)
    assert status == 0, errors
    assert "class café: spelled in 2 Unicode forms, taken as one class" in told
    index = DatasetIndex.open(tmp_path / "out/train")
    assert index.class_names == (composed, "dog")
    assert index.labels().tolist() == [[True, False], [False, True], [True, False]]
    # The third image shows café in one form and ignores it in the other: it shows it.
    assert index.known().tolist() == [[True, False], [False, True], [True, True]]


def test_folders_of_one_name_in_two_unicode_forms_are_refused_with_both(
    tmp_path, monkeypatch, capsys
):
    names = [unicodedata.normalize(form, "café") for form in ("NFC", "NFD")]
    root = write(tmp_path / "in", *names, "bar")
    if len(list(root.iterdir())) < 3:
        pytest.skip("this disk takes both for one name")
    args = ["--source", "imagefolder", "--root", str(root), "--out", str(tmp_path / "out")]
    status, _, errors = shard(monkeypatch, capsys, *args, "--accept-class-names")
    assert (status, errors.count("\n")) == (2, 1)
    assert r"'cafe\u0301' and 'caf\xe9'" in errors


def test_splits_that_spell_a_class_in_two_unicode_forms_have_it_in_common(
    tmp_path, monkeypatch, capsys
):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    root = write(tmp_path / "in", f"train/{apart}", "train/bar", f"val/{composed}", "val/bar")
    args = ["--source", "imagefolder", "--root", str(root), "--out", str(tmp_path / "out")]
    assert shard(monkeypatch, capsys, *args)[0] == 0
    for split in ("train", "val"):
        index = DatasetIndex.open(tmp_path / "out" / split)
        assert index.class_names == ("bar", composed)
        assert index.labels().sum(0).tolist() == [1, 1]


def test_a_table_that_spells_a_class_in_two_unicode_forms_gives_one_class(
    tmp_path, monkeypatch, capsys
):
    write(tmp_path / "in", "a", "b", "c")
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    rows = f"path,labels\na/0.jpg,{composed} dog\nb/1.jpg,{apart}\nc/2.jpg,{apart} {composed}\n"
    (tmp_path / "in/labels.csv").write_text(rows, encoding="utf-8")
    args = ["--source", "csv", "--root", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    status, told, errors = shard(monkeypatch, capsys, *args)
    assert status == 0, errors
    assert (
        "class names: some are in another Unicode form than NFC; the forms of a name are one class"
        in told
    )
    index = DatasetIndex.open(tmp_path / "out/all")
    assert (index.class_names, index.labels()[:, 0].tolist()) == (
        (composed, "dog"),
        [True, True, True],
    )
