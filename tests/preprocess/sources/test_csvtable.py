"""Source csv: tables of paths and labels as people write them, and what they get wrong."""

from pathlib import Path

import numpy as np
import pytest

from preprocess.record import Record
from preprocess.sources.csvtable import CSV
from preprocess.sources.voc import VOC
from shards.errors import DataError
from shards.index import DatasetIndex
from tests.conftest import jpeg, photograph
from tests.preprocess.commands import shard

HOLIDAY = """path,labels,split
img/a.jpg,cat dog,train
img/b.1.jpg,,train
"img/c d.jpg",cat,valid

img/e.jpg,cat zebra,test
"""


@pytest.fixture
def photos(tmp_path) -> Path:
    """Six photographs in `img`, without a table."""
    (tmp_path / "img").mkdir()
    for seed, name in enumerate(("a", "b.1", "c d", "e", "f", "g")):
        (tmp_path / "img" / f"{name}.jpg").write_bytes(jpeg(photograph(40, 30, seed)))
    return tmp_path


def write(root: Path, text: str | bytes, name: str = "labels.csv") -> Path:
    (root / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return root


def read(root: Path, **options) -> dict[str, dict[str, list[str]]]:
    """By split and path, the names of the labels."""
    source = CSV(root, **options)
    return {
        split: {r.source: named(source, r) for r in source.records(split)}
        for split in source.splits()
    }


def named(source: CSV, record: Record) -> list[str]:
    return [source.class_names[label] for label in record.labels]


def test_labels_arrive_in_the_index(photos, monkeypatch, capsys):
    write(photos, HOLIDAY)
    status, _, errors = shard(
        monkeypatch,
        capsys,
        "--order",
        "source",
        "--source",
        "csv",
        "--root",
        str(photos),
        "--out",
        str(photos / "out"),
    )
    assert status == 0, errors
    expected = {"train": [["cat", "dog"], []], "val": [["cat"]], "test": [["cat", "zebra"]]}
    for split, labels in expected.items():
        index = DatasetIndex.open(photos / "out" / split)
        assert (index.class_names, index.task) == (("cat", "dog", "zebra"), "multilabel")
        assert [
            [index.class_names[n] for n in np.flatnonzero(row)] for row in index.labels()
        ] == labels
    assert DatasetIndex.open(photos / "out/train").key(1) == "img%2Fb%2E1"


PLAIN = {"img/a.jpg": ["cat", "dog"], "img/e.jpg": ["cat"]}


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("path,labels\nimg/a.jpg,cat dog\nimg/e.jpg,cat\n", {}),
        ("\ufeffpath,labels\r\nimg/a.jpg,dog cat dog\r\nimg/e.jpg,cat", {}),
        ("labels;n;path\ncat dog;1;img/a.jpg\ncat;2;img/e.jpg\n", {"separator": ";"}),
        ('path,labels\nimg/a.jpg,"cat, dog"\nimg/e.jpg,cat\n', {"label_separator": ","}),
        ("path,labels\nimg/a.jpg,cat|dog\nimg/e.jpg,|cat|\n", {"label_separator": "|"}),
        (
            "id,tags\na,cat dog\ne,cat\n",
            {"path_column": "id", "label_column": "tags", "suffix": ".jpg", "images": "img"},
        ),
        ("img/a.jpg,cat dog\nimg/e.jpg,cat\n", {"columns": "path,labels"}),
        ("0,img/a.jpg,x,cat dog\n1,img/e.jpg,x,cat\n", {"columns": "number,path,note,labels"}),
        ("path\tlabels\nimg/a.jpg\tcat dog\nimg/e.jpg\tcat\n", {"separator": "tab"}),
    ],
)
def test_spellings_of_one_table(photos, text, options):
    assert read(write(photos, text), **options) == {"all": PLAIN}


def test_a_tsv_needs_no_separator(photos):
    write(photos, "path\tlabels\nimg/a.jpg\tcat dog\nimg/e.jpg\tcat\n", "labels.tsv")
    assert read(photos) == {"all": PLAIN}


def test_tables_are_splits(photos):
    write(photos, "path,labels\nimg/a.jpg,cat\n", "my_train.csv")
    write(photos, "path,labels\nimg/e.jpg,dog\n", "validation.csv")
    write(photos, "path,labels\nimg/f.jpg,cow\n", "extra.csv")
    found = read(photos, table="my_train.csv,validation.csv,extra.csv")
    assert list(found.items()) == [
        ("train", {"img/a.jpg": ["cat"]}),
        ("val", {"img/e.jpg": ["dog"]}),
        ("extra", {"img/f.jpg": ["cow"]}),
    ]


def test_multiclass_takes_the_whole_cell(photos):
    write(photos, "path,labels\nimg/a.jpg,traffic light\nimg/e.jpg,dog\n")
    source = CSV(photos, task="multiclass")
    assert (source.task, source.class_names) == ("multiclass", ("dog", "traffic light"))
    assert [record.labels for record in source.records("all")] == [(1,), (0,)]


@pytest.mark.parametrize("cells", [("0 1", "1"), ("0", "1"), ("0 1", "2"), ("0 1 2", "0 2")])
def test_classes_called_0_and_1_are_no_vectors(photos, cells):
    write(photos, f"path,labels\nimg/a.jpg,{cells[0]}\nimg/e.jpg,{cells[1]}\n")
    source = CSV(photos)
    assert [set(named(source, record)) for record in source.records("all")] == [
        set(cell.split()) for cell in cells
    ]


def test_numbers_are_sorted_as_numbers(photos):
    write(photos, "path,labels\nimg/a.jpg,10 2\nimg/e.jpg,1\n")
    assert CSV(photos).class_names == ("1", "2", "10")


ONE = "path,labels\nimg/a.jpg,cat\nimg/e.jpg,dog\nimg/f.jpg,"
GOOD = "path,labels\nimg/a.jpg,cat dog\nimg/e.jpg,cat\n"


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("", {}, "labels.csv is empty"),
        ("path,labels\n", {}, "has a header line and nothing else"),
        (GOOD.partition("\n")[2], {}, "has no header line, its first line is 'img/a.jpg,cat dog'"),
        (GOOD.partition("\n")[2], {}, "--columns path,labels"),
        ("7,img/a.jpg\n", {}, "--columns labels,path"),
        ("img/a.jpg\tcat\n", {}, "give --separator tab"),
        (GOOD, {"columns": "path,labels"}, "has a header line of its own; leave --columns out"),
        ("2008_000008 -1\n2008_000015  1\n", {}, "'2008_000008 -1' is of a list of PASCAL VOC; use --source voc"),
        ("2008_000008,1\n", {}, "is of a list of PASCAL VOC"),
        (GOOD.replace(",", ";"), {}, "has one column, 'path;labels'; give --separator ';'"),
        (GOOD.replace(",", "\t"), {}, "has one column, 'path\\tlabels'; give --separator tab"),
        (GOOD, {"separator": ";"}, "give --separator ','"),
        (GOOD, {"path_column": "file"}, "has no column 'file'; it has 'path', 'labels': give one with --path-column"),
        ("image,tags\na.jpg,cat\n", {}, "has no column 'path' or 'labels'; it has 'image', 'tags'"),
        ("image,tags\na.jpg,cat\n", {}, "give one with --path-column and --label-column, or"),
        (GOOD, {"label_column": "tags"}, "has no column 'tags'; it has 'path', 'labels': give one with --label-column"),
        (GOOD, {"split_column": "part"}, "give one with --split-column"),
        ("path,labels,labels\na,b,c\n", {}, "has more than one column 'labels'"),
        (GOOD + "img/f.jpg,cat,dog\n", {}, "labels.csv:4: 3 values for 2 columns (path, labels); quote"),
        (GOOD + "img/f.jpg\n", {}, "labels.csv:4: 1 value for 2 columns"),
        (GOOD + '"img/f.jpg,cat\n', {}, "unexpected end of data; correct the line"),
        (GOOD + "img/a.jpg,cow\n", {}, "labels.csv:4: 'img/a.jpg' is at"),
        (GOOD + "./img//a.jpg,cow\n", {}, "labels.csv:4: './img//a.jpg' is at"),
        ("path,labels\nimg/a.jpg,\n", {}, "is empty in every row; name the one that holds the labels"),
        (ONE + "dog/cat\n", {}, "labels.csv:4: label 'dog/cat' is made of 'dog' and 'cat'"),
        (ONE + "dog+cat\n", {}, "give --label-separator '+', or --label-separator none if it is one label"),
        (ONE + "dog cat\n", {"label_separator": ";"}, "give --label-separator space"),
        (ONE + '"dog,cat"\n', {"task": "multiclass"}, "--task multilabel and --label-separator ','"),
        ("path,labels\nimg/a.jpg,\n", {}, "column 'labels' is empty in every row"),
        ("path,labels\nimg/a.jpg,\n", {"task": "multiclass"}, "labels.csv:2: no label in column 'labels'"),
        (GOOD, {"task": "multiclass", "label_separator": ","}, "--task multiclass has one a cell; leave it out"),
        (GOOD, {"separator": "ab"}, "--separator is 'ab'; give one character"),
        (GOOD, {"label_separator": '"'}, "--label-separator is '\"'"),
        (GOOD, {"table": "other.csv"}, "other.csv cannot be read (No such file or directory)"),
        (GOOD, {"table": "../labels.csv"}, "--table: path '../labels.csv' is no path inside"),
        (GOOD, {"images": "/etc"}, "--images: path '/etc' is no path inside"),
        ("path,labels\n/etc/passwd,cat\n", {}, "labels.csv:2: path '/etc/passwd' is no path inside"),
        (GOOD + "img/../../e.jpg,cat\n", {}, "labels.csv:4: path 'img/../../e.jpg' is no path inside"),
        ("path,labels\nimg/a.jpg,cat\n,cat\n", {}, "labels.csv:3: path '' is no path inside"),
        ("path,labels\na.jpg,cat\n", {}, "a.jpg is missing; it is in"),
        ("path,labels\na.jpg,cat\n", {}, "give --images img"),
        ("path,labels\nimg/a,cat\n", {}, "there is a.jpg: give --suffix .jpg"),
        ("path,labels\nimg/z.jpg,cat\n", {}, "z.jpg is missing; give the folder of the photographs"),
        ("path,labels,split\nimg/a.jpg,cat,\n", {}, "labels.csv:2: no split"),
        (b"path,labels\nimg/a.jpg,caf\xe9\n", {}, "is no UTF-8 text"),
        (b"path,labels\nimg/a\0.jpg,cat\n", {}, "labels.csv:2: "),
        ("path,labels\nimg/a.jpg,0 0 1 0\nimg/e.jpg,1 1 0 0\n", {}, "labels.csv:2: '0 0 1 0' is a vector of numbers"),
    ],
)  # fmt: skip
def test_mistakes_get_one_line(photos, text, options, says):
    write(photos, text)
    with pytest.raises(DataError) as caught:
        read(photos, **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_with_no_table_or_several(photos):
    with pytest.raises(
        DataError, match=r"holds no \.csv or \.tsv file; name the table with --table"
    ):
        CSV(photos)
    (photos / "ImageSets").mkdir()
    with pytest.raises(DataError, match="a VOC folder is read by --source voc"):
        CSV(photos)
    write(photos, GOOD)
    write(photos, GOOD, "more.csv")
    with pytest.raises(DataError, match=r"holds labels\.csv, more\.csv; name the table"):
        CSV(photos)
    with pytest.raises(DataError, match="two of these tables are of one split"):
        CSV(photos, table="labels.csv,labels.csv")
    with pytest.raises(DataError, match="is not a folder"):
        CSV(photos / "labels.csv")


def test_a_split_cannot_leave_the_folder(photos, monkeypatch, capsys):
    write(photos, "path,labels,split\nimg/a.jpg,cat,../../away\n")
    args = ["--source", "csv", "--root", str(photos), "--out", str(photos / "out")]
    status, _, errors = shard(monkeypatch, capsys, *args)
    assert (status, errors.count("\n")) == (2, 1)
    assert "split '../../away' cannot be the name of a folder" in errors
    assert not (photos / "out").exists()


def test_a_photograph_missing_later_is_a_reject(photos, monkeypatch, capsys):
    write(photos, GOOD + "img/z.jpg,cat\n")
    args = ["--source", "csv", "--root", str(photos), "--out", str(photos / "out")]
    status, _, errors = shard(monkeypatch, capsys, *args)
    assert status == 2
    assert "1 of 3 images of all were rejected" in errors
    assert "img/z.jpg" in (photos / "out/all/rejected.jsonl").read_text()


def test_voc_told_of_a_table(photos):
    write(photos, GOOD)
    with pytest.raises(DataError, match=r"a table such as labels\.csv is read by --source csv"):
        VOC(photos)
    for folder in ("ImageSets/Main", "JPEGImages"):
        (photos / folder).mkdir(parents=True)
    (photos / "ImageSets/Main/cat_train.txt").write_text("a,1\n")
    with pytest.raises(
        DataError, match="got 'a,1'; correct the line, or read a table by --source csv"
    ):
        VOC(photos).records("train")


def test_paths_as_windows_writes_them(photos):
    (photos / "img/sub").mkdir()
    for name in (r"e\f.jpg", "sub/h.jpg"):
        (photos / "img" / name).write_bytes((photos / "img/a.jpg").read_bytes())
    rows = [r"img\a.jpg", r".\img\sub\h.jpg", r"img/e\f.jpg", r"img\none.jpg"]
    write(photos, "path,labels\n" + "".join(f"{path},cat\n" for path in rows))
    source = CSV(photos)
    assert [record.source for record in source.records("all")] == [
        "img/a.jpg",
        "img/sub/h.jpg",
        r"img/e\f.jpg",  # a file of that very name is there
        "img/none.jpg",
    ]
    assert next(record.name for record in source.records("all")) == "img/a"
    assert read(photos, suffix="") == {"all": {r.source: ["cat"] for r in source.records("all")}}
    write(photos, "path,labels\nimg\\a.jpg,cat\nimg/a.jpg,dog\n")
    with pytest.raises(DataError, match=r"is at .*csv:2 already"):
        CSV(photos)
    write(photos, "path,labels\n..\\a.jpg,cat\n")
    with pytest.raises(DataError, match="is no path inside"):
        CSV(photos)
