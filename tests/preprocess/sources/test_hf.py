"""Hugging Face dataset folders: every kind of label column, splits and configurations, and hostile files."""

import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from preprocess.sources.hf import HF
from preprocess.sources.hf_tables import ParquetImage
from shards.errors import DataError
from shards.index import DatasetIndex
from tests.conftest import jpeg, photograph
from tests.preprocess.commands import shard
from tests.preprocess.refusals import refused_by

pa = pytest.importorskip("pyarrow", reason="no pyarrow")
pq = pytest.importorskip("pyarrow.parquet", reason="no pyarrow")

ROOT = Path(__file__).parents[3]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
PICTURES = [jpeg(photograph(24, 20, number)) for number in range(4)]
CLASS = {"names": ["cat", "big dog", "no"], "_type": "ClassLabel"}


def images(num: int = 4) -> "pa.Array":
    found = [{"bytes": PICTURES[n % 4], "path": f"/home/me/{n}.jpg"} for n in range(num)]
    return pa.array(found, IMAGE)


def described(table, **features):
    """Give a table the description that `datasets` writes into it."""
    features = {"image": {"_type": "Image"}, **features}
    return table.replace_schema_metadata(
        {"huggingface": json.dumps({"info": {"features": features}})}
    )


def write(path: Path, labels, column: str = "label", feature=CLASS, **how) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"image": images(len(labels)), column: labels})
    pq.write_table(described(table, **({column: feature} if feature else {})), path, **how)
    return path


def labels_of(source: HF, split: str = "train") -> list[tuple[int, ...]]:
    return [record.labels for record in source.records(split)]


refused = partial(refused_by, HF)


@pytest.mark.parametrize("how", [{}, {"row_group_size": 2}, {"compression": "lz4"}])
def test_class_labels_pack_as_multiclass(tmp_path, monkeypatch, capsys, how):
    root = tmp_path / "my set"
    write(root / "data/train-00000-of-00002.parquet", [0, 2, 1], **how)
    write(root / "data/train-00001-of-00002.parquet", [1, 1], **how)
    write(root / "data/validation-00000-of-00001.parquet", [2], **how)
    args = ["--source", "hf", "--root", str(root), "--out", str(tmp_path / "out")]
    status, said, errors = shard(monkeypatch, capsys, *args)
    assert status == 0, errors
    index = DatasetIndex.open(tmp_path / "out/train")
    assert (index.task, index.class_names) == ("multiclass", ("cat", "big dog", "no"))
    numbers = {index.key(n): int(np.flatnonzero(row)[0]) for n, row in enumerate(index.labels())}
    assert sorted(numbers.values()) == [0, 1, 1, 1, 2]
    assert DatasetIndex.open(tmp_path / "out/val").num_samples == 1
    assert "labels: column 'label', its classes have names; images: column 'image'" in said
    assert (
        "split train: data/train-00000-of-00002.parquet, data/train-00001-of-00002.parquet" in said
    )
    records = HF(root).records("train")
    assert [record.read() for record in records] == [PICTURES[n] for n in (0, 1, 2, 0, 1)]
    assert records[3].source == "data/train-00001-of-00002.parquet:0"
    assert records[3].name == "data/train-00001-of-00002/000000"
    assert "home" not in str(records)


@pytest.mark.parametrize(
    ("labels", "feature"),
    [
        ([[0, 2], [], [1], [2, 2]], {"feature": CLASS, "_type": "Sequence"}),
        ([[0, 2], [], [1], [2]], {"feature": CLASS, "_type": "List", "length": -1}),
        ([[0, 2], [], [1], [2]], [CLASS]),
        ([["cat", "no"], [], ["big dog"], ["no"]], {"feature": CLASS, "_type": "Sequence"}),
    ],
)
def test_lists_are_multilabel(tmp_path, labels, feature):
    write(tmp_path / "train.parquet", labels, "labels", feature)
    source = HF(tmp_path)
    assert (source.task, source.class_names) == ("multilabel", ("cat", "big dog", "no"))
    assert labels_of(source) == [(0, 2), (), (1,), (2,)]


def test_names_without_a_description_are_sorted(tmp_path):
    write(tmp_path / "train.parquet", [["no", "cat"], ["a  b"], [], ["no"]], feature=None)
    write(tmp_path / "test.parquet", [["dog"]], feature=None)
    source = HF(tmp_path)
    assert source.class_names == ("a b", "cat", "dog", "no")
    assert labels_of(source) == [(1, 3), (0,), (), (3,)]
    assert source.splits() == ("train", "test")


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (["b", "a", "b"], ("a", "b")),
        ([10, 2, 2], ("2", "10")),
        ([True, False, True], ("false", "true")),
    ],
)
def test_single_labels_without_a_description(tmp_path, values, names):
    write(tmp_path / "train.parquet", values, feature=None)
    source = HF(tmp_path)
    assert (source.task, source.class_names) == ("multiclass", names)
    assert [names[label] for (label,) in labels_of(source)] == [
        str(value).lower() for value in values
    ]


def test_a_column_per_class(tmp_path):
    table = {
        "image": images(3),
        "cat": [True, False, None],
        "big dog": pa.array([1, 0, -1], pa.int8()),
        "no": [1.0, 0.0, float("nan")],
    }
    pq.write_table(pa.table(table), tmp_path / "train.parquet")
    source = HF(tmp_path, label_columns="cat..no", unknown="blank,-1")
    assert source.class_names == ("cat", "big dog", "no")
    assert [(r.labels, r.ignored) for r in source.records("train")] == [
        ((0, 1, 2), ()),
        ((), ()),
        ((), (0, 1, 2)),
    ]
    assert "column 'cat' has an empty cell, neither 0 nor 1; give --unknown=blank" in refused(
        tmp_path, label_columns="cat,no"
    )


@pytest.mark.parametrize("as_list", [True, False])
def test_labels_inside_objects(tmp_path, as_list):
    numbers = [[0, 2, 2], [], [1]]
    if as_list:
        objects = [[{"box": [0.5], "category": n} for n in found] for found in numbers]
    else:
        objects = [{"box": [[0.5]] * len(found), "category": found} for found in numbers]
    feature = {"feature": {"category": CLASS}, "_type": "Sequence"}
    write(tmp_path / "train.parquet", objects, "objects", feature)
    source = HF(tmp_path, label_column="objects.category")
    assert (source.task, source.class_names) == ("multilabel", ("cat", "big dog", "no"))
    assert labels_of(source) == [(0, 2), (), (1,)]
    assert "has no label column" in refused(tmp_path)


def test_two_classes_on_every_image_are_no_vector(tmp_path):
    two = {"names": ["x", "y"], "_type": "ClassLabel"}
    write(tmp_path / "train.parquet", [[1, 0], [0, 1]], "labels", [two])
    assert labels_of(HF(tmp_path)) == [(0, 1), (0, 1)]
    objects = [[{"category": 1}, {"category": 0}, {"category": 0}]] * 2
    three = {"names": ["x", "y", "z"], "_type": "ClassLabel"}
    write(tmp_path / "train.parquet", objects, "objects", [{"category": three}])
    assert labels_of(HF(tmp_path, label_column="objects.category")) == [(0, 1), (0, 1)]


def test_a_card_names_classes_and_files(tmp_path):
    write(tmp_path / "a/train-part.parquet", [0, 1, 2], feature=None)
    write(tmp_path / "a/more.parquet", [2], feature=None)
    write(tmp_path / "b/x.parquet", [0], feature=None)
    card = """---
configs:
- config_name: first
  data_files:
  - split: train
    path: a/train-*.parquet
  - split: validation
    path:
    - a/more.parquet
- config_name: second
  data_files: b/*.parquet
dataset_info:
- config_name: first
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': cat
          '1': big dog
          '2': no
---
# A dataset
"""
    (tmp_path / "README.md").write_text(card)
    source = HF(tmp_path, config_name="first")
    assert source.splits() == ("train", "val")
    assert source.class_names == ("cat", "big dog", "no")
    assert labels_of(source) == [(0,), (1,), (2,)]
    assert HF(tmp_path, config_name="second").splits() == ("train",)
    assert "several configurations: first, second; choose one with --config-name" in refused(
        tmp_path
    )
    said = refused(tmp_path, config_name="third")
    assert "has no configuration 'third'; there are: first, second" in said


def test_configurations_are_folders_where_no_card_says_so(tmp_path):
    for config in ("plain", "hard"):
        for split in ("train", "test"):
            write(tmp_path / config / split / "0000.parquet", [0, 1])
    assert "several configurations: hard, plain" in refused(tmp_path)
    source = HF(tmp_path, config_name="hard")
    assert source.splits() == ("train", "test")
    assert source.records("test")[0].source == "hard/test/0000.parquet:0"


def test_dataset_infos_name_the_classes(tmp_path):
    write(tmp_path / "train.parquet", [0, 2], feature=None)
    infos = {"default": {"features": {"image": {"_type": "Image"}, "label": CLASS}}}
    (tmp_path / "dataset_infos.json").write_text(json.dumps(infos))
    assert HF(tmp_path).class_names == ("cat", "big dog", "no")


def test_paths_instead_of_bytes(tmp_path):
    for number in range(3):
        (tmp_path / "pictures").mkdir(exist_ok=True)
        (tmp_path / f"pictures/{number}.JPG").write_bytes(PICTURES[number])
    names = [f"pictures/{number}.JPG" for number in range(3)]
    structs = pa.array([{"bytes": None, "path": name} for name in names], IMAGE)
    for column in (pa.array(names), structs):
        pq.write_table(
            pa.table({"image": column, "label": ["a", "b", "b"]}), tmp_path / "train.parquet"
        )
        records = HF(tmp_path, image_column="image").records("train")
        assert [record.read() for record in records] == PICTURES[:3]
    names = [name.removeprefix("pictures/") for name in names]
    pq.write_table(pa.table({"file": names, "label": ["a", "b", "b"]}), tmp_path / "train.parquet")
    records = HF(tmp_path, image_column="file", images="pictures").records("train")
    assert [record.read() for record in records] == PICTURES[:3]


def test_a_path_that_leads_out_is_not_followed(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(PICTURES[0])
    for number, path in enumerate(("../secret.jpg", str(tmp_path / "secret.jpg"))):
        root = tmp_path / f"set{number}"
        root.mkdir()
        rows = pa.array([{"bytes": None, "path": path}], IMAGE)
        pq.write_table(pa.table({"image": rows, "label": ["a"]}), root / "train.parquet")
        with pytest.raises(OSError, match="is no path inside"):
            HF(root).records("train")[0].read()
        pq.write_table(pa.table({"image": [path], "label": ["a"]}), root / "train.parquet")
        assert "is no path inside" in refused(root)


def test_rows_without_an_image_are_rejects(tmp_path, monkeypatch, capsys):
    rows = pa.array(
        [{"bytes": PICTURES[0], "path": None}, {"bytes": None, "path": None}, None], IMAGE
    )
    root = tmp_path / "set"
    root.mkdir()
    pq.write_table(pa.table({"image": rows, "label": ["a", "b", "a"]}), root / "train.parquet")
    args = ["--source", "hf", "--root", str(root), "--out", str(tmp_path / "out")]
    status, _, errors = shard(monkeypatch, capsys, *args)
    assert (status, "2 of 3 images of train were rejected" in errors) == (2, True)
    assert "the row holds no image" in (tmp_path / "out/train/rejected.jsonl").read_text()


def save_to_disk(folder: Path, table, split: str | None = None, rows: int = 2) -> None:
    folder.mkdir(parents=True)
    path = str(folder / "data-00000-of-00001.arrow")
    with pa.OSFile(path, "wb") as file, pa.ipc.new_stream(file, table.schema) as stream:
        stream.write_table(table, max_chunksize=rows)
    state = {"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": split}
    (folder / "state.json").write_text(json.dumps(state))


def test_save_to_disk(tmp_path, monkeypatch, capsys):
    root = tmp_path / "saved"
    table = described(pa.table({"image": images(), "label": [2, 0, 1, 1]}), label=CLASS)
    save_to_disk(root / "train", table, "train")
    save_to_disk(root / "validation", table.slice(1, 2), "validation")
    (root / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    source = HF(root)
    assert source.splits() == ("train", "val")
    assert labels_of(source) == [(2,), (0,), (1,), (1,)]
    assert [record.read() for record in source.records("train")] == PICTURES
    assert [record.read() for record in source.records("val")] == PICTURES[1:3]
    assert all(record.span for record in source.records("train"))
    args = ["--source", "hf", "--root", str(root / "train"), "--out", str(tmp_path / "out")]
    status, _, errors = shard(monkeypatch, capsys, *args, "--val-fraction", "0.3")
    assert status == 0, errors


def test_an_arrow_file_whose_offsets_lie(tmp_path):
    root = tmp_path / "saved"
    table = pa.table({"image": images(), "label": ["a", "b", "c", "d"]})
    save_to_disk(root, table, rows=4)
    path = root / "data-00000-of-00001.arrow"
    whole = path.read_bytes()
    ends = np.cumsum([0, *map(len, PICTURES)]).astype("<i4").tobytes()
    assert whole.count(ends) == 1
    path.write_bytes(whole.replace(ends, ends[:-4] + (1 << 30).to_bytes(4, "little")))
    assert "cannot be read" in refused(root)
    for length in (0, 3, 100, len(whole) // 2):
        path.write_bytes(whole[:length])
        said = refused(root)
        assert "cannot be read" in said or "no image" in said, said


def test_a_compressed_arrow_file_is_refused(tmp_path):
    root = tmp_path / "saved"
    root.mkdir()
    table = pa.table({"image": images(), "label": ["a", "b", "c", "d"]})
    how = pa.ipc.IpcWriteOptions(compression="zstd")
    path = str(root / "x-train.arrow")
    with pa.OSFile(path, "wb") as file, pa.ipc.new_file(file, table.schema, options=how) as stream:
        stream.write_table(table)
    assert "its columns are compressed; save the dataset as Parquet" in refused(root)


@pytest.mark.parametrize(
    ("column", "values", "feature", "says"),
    [
        ("label", [0, 3], CLASS, "row 1, label: label 3 is no class; there are 0 to 2"),
        ("label", [0, -1], CLASS, "label -1, as splits without labels have; leave this split out"),
        ("label", [0, None], CLASS, "row 1, label has no label .null."),
        ("label", [0.5, 1.5], None, "label '0.5' is of type float"),
        ("label", ["a", " "], None, "row 1, label has an empty label"),
        ("labels", [[0, 1], None], None, "row 1 has null for its list of labels"),
        ("labels", [[0, None]], None, "has no label .null."),
        ("labels", [[0.0, 1.0]], None, "is a vector, a place per class"),
        ("labels", [[True, False]], None, "is a vector, a place per class"),
        ("labels", [[0, 1, 0], [1, 0, 0]], None, "is a vector, a place per class"),
        ("labels", [[0, 1], [1, 0]], None, "is a vector, a place per class"),
        ("labels", [[1, 0, 0], [0, 1, 0]], [CLASS], "is a vector, a place per class"),
        ("labels", [[], []], None, "column 'labels' holds no label"),
        (
            "breed",
            [0, 1],
            None,
            "has no label column; it has 'image', 'breed': give one with --label-column",
        ),
        ("label", [0], {"names": [], "_type": "ClassLabel"}, "its classes have no names"),
        ("label", [0], {"names": ["a", "a"], "_type": "ClassLabel"}, "class 1 is named 'a'"),
        ("label", [0], {"names": [1], "_type": "ClassLabel"}, "class 0 is named ''"),
        (
            "label",
            [0],
            {"num_classes": 100_001, "_type": "ClassLabel"},
            "more than 100,000 classes",
        ),
        ("label", [0, 100_000], None, "label 100000 is no class; there are 0 to 99,999"),
    ],
)
def test_wrong_labels(tmp_path, column, values, feature, says):
    write(tmp_path / "train.parquet", values, column, feature)
    said = refused(tmp_path)
    assert re.search(says, said), said


@pytest.mark.parametrize(
    ("labels", "without", "says"),
    [
        ([0, 1, 1], [-1, -1], "row 0, label has label -1, as splits without labels have; leave"),
        (["b", "a"], pa.array([None, None], pa.string()), "row 0, label has no label .null."),
        ([["a"], ["a", "b"]], pa.array([[], None], pa.list_(pa.string())), "row 1 has null for"),
    ],
)
def test_a_split_without_labels_may_be_left_out(tmp_path, labels, without, says):
    write(tmp_path / "train.parquet", labels, feature=None)
    path = write(tmp_path / "test.parquet", without, feature=None)
    source = HF(tmp_path)
    assert len(source.class_names) == 2
    assert len(source.records("train")) == len(labels)
    with pytest.raises(DataError, match=f"test.parquet: {says}"):
        source.records("test")
    write(path, without, column="other", feature=None)
    with pytest.raises(DataError, match=r"no column 'label', train\.parquet has; leave its split"):
        HF(tmp_path).records("test")
    write(path, without, feature=None)
    (tmp_path / "train.parquet").unlink()
    path.rename(tmp_path / "train.parquet")
    with pytest.raises(DataError, match=f"train.parquet: {says}"):
        HF(tmp_path)


def test_labels_are_read_once(tmp_path, monkeypatch):
    write(tmp_path / "train.parquet", ["b", "a"], feature=None)
    read = []
    of_file = HF._of_file
    monkeypatch.setattr(HF, "_of_file", lambda *args: read.append(args[1]) or of_file(*args))
    assert labels_of(HF(tmp_path)) == [(1,), (0,)]
    assert read == [tmp_path / "train.parquet"]


def test_wrong_columns_and_flags(tmp_path):
    table = pa.table({"image": images(2), "second": images(2), "fine": [0, 1], "coarse": [0, 0]})
    features = {"second": {"_type": "Image"}, "fine": CLASS, "coarse": CLASS}
    pq.write_table(described(table, **features), tmp_path / "train.parquet")
    assert "several label columns, fine, coarse" in refused(tmp_path)
    source = HF(tmp_path, label_column="fine")
    assert not any("'split'" in line for line in source.describe())
    pq.write_table(
        described(table.append_column("split", pa.array(["a", "b"])), fine=CLASS),
        tmp_path / "train.parquet",
    )
    assert any(
        "left aside: column 'split'" in line
        for line in HF(tmp_path, label_column="fine").describe()
    )
    pq.write_table(described(table, **features), tmp_path / "train.parquet")
    assert HF(tmp_path, label_column="coarse").task == "multiclass"
    assert "no column 'x'" in refused(tmp_path, label_column="x")
    assert "no images in column 'fine', of type int64" in refused(tmp_path, image_column="fine")
    assert "give --label-columns" in refused(tmp_path, unknown="-1")
    assert "give one" in refused(tmp_path, label_column="fine", label_columns="fine")
    assert "give refuse or skip" in refused(tmp_path, missing_files="x")
    assert "no column 'y'" in refused(tmp_path, label_columns="fine,y")


def test_missing_files_of_a_series(tmp_path):
    write(tmp_path / "train-00001-of-00003.parquet", [0, 1])
    assert "train-00000-of-00003 is not there, and 1 more" in refused(tmp_path)
    source = HF(tmp_path, missing_files="skip")
    assert labels_of(source) == [(0,), (1,)]
    assert "left out: 2 files not there" in source.describe()


def test_files_of_different_datasets(tmp_path):
    write(tmp_path / "train.parquet", [0, 1])
    other = {"names": ["a", "b"], "_type": "ClassLabel"}
    write(tmp_path / "test.parquet", [0, 1], feature=other)
    assert "test.parquet names other classes than" in refused(tmp_path)
    write(tmp_path / "test.parquet", [0, 1], column="labels")
    assert "test.parquet has no column 'label'" in refused(tmp_path)
    write(tmp_path / "metadata.parquet", [0])
    assert "metadata.parquet: its name tells no split" in refused(tmp_path)


def test_cut_and_foreign_files(tmp_path):
    path = write(tmp_path / "train.parquet", [0, 1, 2, 0])
    whole = path.read_bytes()
    for content in (b"", b"PAR1", whole[:-3], whole[: len(whole) // 2], b"version https://git-lfs"):
        path.write_bytes(content)
        assert "train.parquet cannot be read" in refused(tmp_path)
    assert f"is one file; give its folder, --root {tmp_path}" in refused(path)
    assert "is not a folder" in refused(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/x.csv").touch()
    assert "a table such as x.csv is read by --source csv" in refused(tmp_path / "empty")


def test_damaged_images_are_rejects_and_damaged_labels_an_error(tmp_path):
    path = write(tmp_path / "train.parquet", [0, 1, 2, 0], compression="none", use_dictionary=False)
    whole = path.read_bytes()
    column = pq.ParquetFile(path).metadata.row_group(0)
    damaged = bytearray(whole)
    start = column.column(0).data_page_offset
    damaged[start : start + 8] = b"\xff" * 8
    path.write_bytes(damaged)
    record = HF(tmp_path).records("train")[0]
    assert isinstance(record, ParquetImage)
    with pytest.raises(OSError, match="damaged page"):
        record.read()
    start = column.column(2).data_page_offset
    damaged = bytearray(whole)
    damaged[start : start + 8] = b"\xff" * 8
    path.write_bytes(damaged)
    assert "train.parquet cannot be read" in refused(tmp_path)


def test_a_few_bytes_that_say_a_thousand_million_labels(tmp_path):
    many = pa.array([[0] * 3_000_000], pa.list_(pa.int8()))
    pq.write_table(pa.table({"image": images(1), "labels": many}), tmp_path / "train.parquet")
    assert (tmp_path / "train.parquet").stat().st_size < 20_000
    assert "column 'labels.list.element' has 3,000,000 values in 1 row" in refused(tmp_path)


def test_a_card_that_leads_out(tmp_path):
    write(tmp_path / "train.parquet", [0])
    for pattern in ("../*.parquet", "/etc/*", "**/../x"):
        (tmp_path / "README.md").write_text(f"---\nconfigs:\n- data_files: '{pattern}'\n---\n")
        assert "is no path inside" in refused(tmp_path)
    (tmp_path / "README.md").write_text("---\nconfigs: [\n---\n")
    assert "README.md is no YAML" in refused(tmp_path)
    (tmp_path / "README.md").write_bytes(b"\xff\xfe\xff no text")
    assert HF(tmp_path).splits() == ("train",)


def test_without_pyarrow_one_line_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    status, _, errors = shard(monkeypatch, capsys, "--source", "hf", "--root", str(tmp_path))
    assert (status, errors.count("\n")) == (2, 1)
    assert "--source hf needs the package pyarrow: pip install 'tarmac-vision[hf]'" in errors


FUZZ = """
import io, random, sys
from pathlib import Path
import pyarrow as pa, pyarrow.parquet as pq
from preprocess.sources.hf import HF
from shards.errors import DataError

folder, kind = Path(sys.argv[1]), sys.argv[2]
image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
rows = [{"bytes": bytes([n]) * (20 + n), "path": f"{n}.jpg"} for n in range(40)]
table = pa.table({"image": pa.array(rows, image), "labels": [[f"c{n % 5}"] for n in range(40)]})
random.seed(0)
outcomes = set()
for number in range(120):
    buffer = io.BytesIO()
    if kind == "parquet":
        how = {"compression": random.choice(["none", "zstd"]), "use_dictionary": number % 2 == 0}
        pq.write_table(table, buffer, row_group_size=random.choice([7, 40]), **how)
    else:
        with random.choice([pa.ipc.new_stream, pa.ipc.new_file])(buffer, table.schema) as stream:
            stream.write_table(table, max_chunksize=9)
    content = bytearray(buffer.getvalue())
    for _ in range(random.randrange(1, 5)):
        content[random.randrange(len(content))] = random.choice([0, 127, 128, 255])
    (folder / f"train.{kind}").write_bytes(content)
    try:
        for record in HF(folder).records("train"):
            try:
                record.read()
                outcomes.add("read")
            except OSError as error:
                assert error.errno is not None
                outcomes.add("reject")
    except DataError as error:
        assert "\\n" not in str(error)
        outcomes.add("refused")
print(*sorted(outcomes))
"""


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_damaged_bytes_are_refused_or_rejects(tmp_path, kind):
    """In a process of its own: pyarrow ends it for some damage in a footer, if asked for it."""
    command = [sys.executable, "-c", FUZZ, str(tmp_path), kind]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert {"read", "refused"} <= set(done.stdout.split())
