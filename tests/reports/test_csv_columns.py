"""Tables with a column of 0 and 1 per class: Roboflow's, CheXpert's, CelebA's and others."""

from pathlib import Path

import pytest

from preprocess.sources.csvtable import CSV
from shards.errors import DataError
from shards.index import DatasetIndex
from tests.conftest import jpeg, photograph
from tests.preprocess.commands import shard
from tests.reports.test_csv_labels import refusal

ROBOFLOW = """filename, cat, dog, bird
0.jpg, 1, 0, 1
1.jpg, 0, 0, 0
2.jpg, 0, 1, 1
"""
CHEXPERT = """Path,Sex,Age,Frontal/Lateral,No Finding,Edema,Pleural Effusion
0.jpg,F,68,Frontal,1.0,,
1.jpg,M,87,Lateral,,-1.0,1.0
2.jpg,M,70,Frontal,,1.0,0.0
"""
CELEBA = """image_id,Smiling,Young
0.jpg,1,-1
1.jpg,-1,-1
2.jpg,1,1
"""
TOXIC = "id,comment,toxic,obscene\n0,hello,0,1\n1,world,1,1\n2,again,0,0\n"


def photos(root: Path, text: str, name: str = "_classes.csv", suffix: str = ".jpg") -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    for number in range(3):
        ((root / name).parent / f"{number}{suffix}").write_bytes(jpeg(photograph(32, 24, number)))
    (root / name).write_text(text, encoding="utf-8")
    return root


def shown(source: CSV, split: str = "all") -> list[tuple[set[str], set[str]]]:
    return [
        tuple(
            {source.class_names[label] for label in part}
            for part in (record.labels, record.ignored)
        )
        for record in source.records(split)
    ]


def test_columns_of_0_and_1_are_classes(tmp_path):
    source = CSV(photos(tmp_path, ROBOFLOW), path_column="filename")
    assert source.class_names == ("cat", "dog", "bird")
    assert shown(source) == [({"cat", "bird"}, set()), (set(), set()), ({"dog", "bird"}, set())]
    assert source.describe() == [
        "labels: columns of 0 and 1, 'cat' to 'bird' (3 classes), of _classes.csv"
    ]


@pytest.mark.parametrize(
    "form", ["1.0/0.0", "True/False", "true/false", "TRUE/FALSE", "yes/no", " 1 / 0 "]
)
def test_spellings_of_0_and_1(tmp_path, form):
    one, zero = form.split("/")
    text = "path,cat,dog\n" + "".join(f"{n}.jpg,{one},{zero}\n" for n in range(3))
    assert shown(CSV(photos(tmp_path, text))) == [({"cat"}, set())] * 3


def test_roboflows_folders_are_splits(tmp_path, monkeypatch, capsys):
    for split in ("train", "valid", "test"):
        photos(tmp_path / "in", ROBOFLOW, f"{split}/_classes.csv")
    with pytest.raises(DataError, match=r"give|such as test/_classes\.csv,train/_classes\.csv"):
        CSV(tmp_path / "in")
    args = [
        "--order",
        "source",
        "--source",
        "csv",
        "--root",
        str(tmp_path / "in"),
        "--out",
        str(tmp_path / "out"),
        "--path-column",
    ]
    table = "train/_classes.csv,valid/_classes.csv,test/_classes.csv"
    status, _, errors = shard(monkeypatch, capsys, *args, "filename", "--table", table)
    assert status == 0, errors
    for split in ("train", "val", "test"):
        index = DatasetIndex.open(tmp_path / "out" / split)
        assert index.class_names == ("cat", "dog", "bird")
        assert index.labels().tolist() == [[True, False, True], [False] * 3, [False, True, True]]


def test_other_columns_beside_them(tmp_path):
    photos(tmp_path, TOXIC)
    text = refusal(tmp_path, path_column="id", suffix=".jpg")
    assert "has no column 'labels'; give one with --label-column, or if" in text
    assert "--label-columns toxic,obscene" in text
    source = CSV(tmp_path, path_column="id", suffix=".jpg", label_columns="toxic,obscene")
    assert shown(source) == [({"obscene"}, set()), ({"toxic", "obscene"}, set()), (set(), set())]


def test_chexpert(tmp_path):
    photos(tmp_path, CHEXPERT)
    assert "--label-columns 'No Finding,Edema,Pleural Effusion'" in refusal(
        tmp_path, path_column="Path"
    )
    chosen = {"path_column": "Path", "label_columns": "No Finding..Pleural Effusion"}
    text = refusal(tmp_path, **chosen)
    assert (
        "_classes.csv:2: column 'Edema' has an empty cell, neither 0 nor 1; give --unknown=blank"
        in text
    )
    text = refusal(tmp_path, **chosen, negative="blank")
    assert "column 'Edema' has '-1.0', neither 0 nor 1; give --unknown=-1" in text
    source = CSV(tmp_path, **chosen, negative="blank", unknown="-1")
    assert shown(source) == [
        ({"No Finding"}, set()),
        ({"Pleural Effusion"}, {"Edema"}),
        ({"Edema"}, set()),
    ]
    source = CSV(tmp_path, **chosen, unknown="-1,blank")
    assert shown(source)[0] == ({"No Finding"}, {"Edema", "Pleural Effusion"})


def test_celeba(tmp_path):
    photos(tmp_path, CELEBA)
    assert "--negative=-1 if the class is not shown" in refusal(tmp_path, path_column="image_id")
    source = CSV(tmp_path, path_column="image_id", negative="-1")
    assert shown(source) == [({"Smiling"}, set()), (set(), set()), ({"Smiling", "Young"}, set())]


@pytest.mark.parametrize("value", ["2", "0.7", "x", "-2", "1,0".replace(",", "/")])
def test_other_values_are_refused(tmp_path, value):
    photos(tmp_path, ROBOFLOW.replace("1.jpg, 0, 0, 0", f"1.jpg, 0, {value}, 0"))
    text = refusal(tmp_path, path_column="filename", label_columns="cat..bird")
    assert f"_classes.csv:3: column 'dog' has '{value}', neither 0 nor 1" in text


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        ("path,label\n0.jpg,1\n1.jpg,0\n", {}, "--label-columns label"),
        (
            "path,label,is_valid\n0.jpg,1,0\n1.jpg,0,1\n",
            {},
            "has no column 'labels'; give one with --label-column",
        ),
        ("path,cat,fold\n0.jpg,1,0\n1.jpg,0,1\n", {}, "has no column 'labels'"),
        ("path,cat,dog\n0.jpg,1,0\n", {"label_column": "tags"}, "has no column 'tags'"),
        (
            "path,cat,dog\n0.jpg,1,0\n",
            {"label_columns": "cat,cow"},
            "has no column 'cow'; it has 'path', 'cat', 'dog'",
        ),
        (
            "path,cat,dog\n0.jpg,1,0\n",
            {"label_columns": "dog..cat"},
            "column 'cat' is before 'dog'",
        ),
        ("path,cat,dog\n0.jpg,1,0\n", {"label_columns": "cat..dog,cat"}, "names 'cat' twice"),
        ("path,cat,cat\n0.jpg,1,0\n", {"label_columns": "cat"}, "has more than one column 'cat'"),
        (
            "path,cat,dog\n0.jpg,1,0\n",
            {"label_separator": "|"},
            "--label-separator is of labels in one cell",
        ),
        (
            "path,cat,dog\n0.jpg,1,0\n",
            {"unknown": "1"},
            "--unknown=1: 1 means something else already",
        ),
        (
            "path,cat,dog\n0.jpg,1,0\n",
            {"unknown": "-1", "negative": "-1.0"},
            "=-1.0: -1 means something else already",
        ),
        (
            "path,cat,dog\n0.jpg,1,1\n",
            {"task": "multiclass"},
            "2 columns are 1, 0 unknown; with --task multiclass",
        ),
        (
            "path,labels\n0.jpg,cat\n",
            {"unknown": "-1"},
            "--unknown and --negative say what columns of 0 and 1 mean",
        ),
        (
            "path,labels,a\n0.jpg,x,1\n",
            {"label_column": "labels", "label_columns": "b"},
            "has no column 'b'",
        ),
        (
            "path,tags,a\n0.jpg,x,1\n",
            {"label_column": "tags", "label_columns": "a"},
            "leave one of them out",
        ),
    ],
)
def test_mistakes_with_columns(tmp_path, text, options, says):
    assert says in refusal(photos(tmp_path, text), **options)


def test_tables_of_other_classes(tmp_path):
    photos(tmp_path, ROBOFLOW, "train/_classes.csv")
    photos(tmp_path, ROBOFLOW.replace("bird", "cow"), "valid/_classes.csv")
    text = refusal(tmp_path, table="train/_classes.csv,valid/_classes.csv", path_column="filename")
    assert "column 'bird' is not a class in every table" in text
    photos(tmp_path, "filename,labels\n0.jpg,cat\n", "valid/_classes.csv")  # names instead
    text = refusal(tmp_path, table="train/_classes.csv,valid/_classes.csv", path_column="filename")
    assert "is not a class in every table" in text
    photos(tmp_path, "filename,bird,cat,dog\n0.jpg,1,0,0\n", "valid/_classes.csv")  # another order
    source = CSV(tmp_path, table="train/_classes.csv,valid/_classes.csv", path_column="filename")
    assert shown(source, "val") == [({"bird"}, set())]


def test_one_label_per_image_by_columns(tmp_path):
    source = CSV(
        photos(tmp_path, "path,cat,dog\n0.jpg,1,0\n1.jpg,0,1\n2.jpg,0,1\n"), task="multiclass"
    )
    assert (source.task, [record.labels for record in source.records("all")]) == (
        "multiclass",
        [(0,), (1,), (1,)],
    )


def test_an_index_column_of_pandas_is_no_class(tmp_path):
    source = CSV(photos(tmp_path, ",path,cat,dog\n0,0.jpg,1,0\n1,1.jpg,0,1\n"))
    assert source.class_names == ("cat", "dog")


@pytest.mark.parametrize("value", ["?", "-1", "", "nan", "2", "u", "unknown", "-1.0", "NA"])
def test_a_third_value_is_unknown_where_the_user_says_so(tmp_path, value):
    """With `--unknown` the columns are found too; without it one line names value and flag."""
    text = f"path,cat,dog\n0.jpg,1,{value}\n1.jpg,0,1\n2.jpg,{value},0\n"
    root = photos(tmp_path, text)
    given = "blank" if value in ("", "nan", "NA") else value
    source = CSV(root, unknown=given)
    assert shown(source) == [({"cat"}, {"dog"}), ({"dog"}, set()), (set(), {"cat"})]
    assert shown(CSV(root, negative=given))[0] == ({"cat"}, set())
    with pytest.raises(DataError) as caught:
        CSV(root, label_columns="cat,dog")
    spelled = "blank" if given == "blank" else given.removesuffix(".0")
    assert f"give --unknown={spelled} if nobody knows" in str(caught.value)
    with pytest.raises(DataError) as caught:
        CSV(root)
    assert "--unknown" in str(caught.value)


@pytest.mark.parametrize(
    ("header", "more"),
    [
        ("filename,tags", {}),
        (" Path , Labels ", {}),
        ("image_id,target", {"suffix": ".jpg"}),
        ("images,what", {"images": "sub"}),
    ],
)
def test_columns_of_a_table_with_a_header_of_its_own(tmp_path, header, more):
    bare = "" if "suffix" in more else ".jpg"
    text = f"{header}\n" + "".join(f"{n}{bare},cat\n" for n in range(3))
    root = photos(tmp_path, text)
    for n in range(3):
        (root / "sub").mkdir(exist_ok=True)
        (root / f"sub/{n}.jpg").write_bytes((root / f"{n}.jpg").read_bytes())
    line = refusal(root, columns="path,labels", **more)
    path, label = (cell.strip() for cell in header.split(","))
    assert "_classes.csv:1: " in line
    flags = f"--path-column {path} --label-column {label}"
    assert f"has a header line of its own; leave --columns out, and give {flags} " in line


def test_columns_with_a_header_in_the_second_table(tmp_path):
    photos(tmp_path, "0.jpg,cat\n", name="train.csv")
    photos(tmp_path, "file,tag\n1.jpg,cat\n", name="val.csv")
    line = refusal(tmp_path, table="train.csv,val.csv", columns="path,labels")
    assert "val.csv:1: " in line
    assert "header line of its own" in line


@pytest.mark.parametrize("first", ["0.jpg", "missing.jpg", "7"])
def test_columns_of_a_table_that_begins_with_an_image(tmp_path, first):
    suffix = "" if "." in first else ".jpg"
    rest = "1,cat\n2,dog\n" if suffix else "1.jpg,cat\n2.jpg,dog\n"
    photos(tmp_path, "train.jpg,cat\n", name="train.csv")
    (tmp_path / "train.jpg").write_bytes(jpeg(photograph(32, 24, 4)))
    photos(tmp_path, f"{first},cat\n{rest}", name="val.csv")
    if suffix:
        (tmp_path / "train.csv").write_text("train,cat\n", encoding="utf-8")
    source = CSV(tmp_path, table="train.csv,val.csv", columns="path,labels", suffix=suffix)
    assert [len(source.records(split)) for split in ("train", "val")] == [1, 3]


def test_columns_of_a_table_whose_first_image_is_called_like_a_column(tmp_path):
    photos(tmp_path / "train", "name,cat\n1,dog\n", name="t.csv")
    (tmp_path / "train/0.jpg").rename(tmp_path / "train/name.jpg")
    source = CSV(tmp_path, table="train/t.csv", columns="path,labels", suffix=".jpg")
    assert [record.name for record in source.records("all")] == ["train/name", "train/1"]
