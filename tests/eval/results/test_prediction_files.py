"""Exports read back by plain readers: the same scores, and the same average precision, come out."""

import csv
import sys
import tarfile

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from eval.metrics import average_precision
from eval.prediction.predictions import Predictions
from eval.results.prediction_files import (
    KINDS,
    check_voc_names,
    export_kinds,
    voc_year,
    write_csv,
    write_export,
    write_parquet,
)
from shards.errors import DataError

CLASSES = ("aeroplane", "tv monitor", 'a "b", c')
NUM = 200


@pytest.fixture
def predictions():
    generator = torch.Generator().manual_seed(5)
    shape = (NUM, len(CLASSES))
    labels = torch.rand(shape, generator=generator) < 0.3
    # Near 1 float32 has steps of 6e-8: fewer than nine digits would tie what is not tied.
    scores = torch.sigmoid(torch.randn(shape, generator=generator) * 4 + 8 * labels)
    known = torch.rand(shape, generator=generator) < 0.9
    return Predictions(
        scores, labels, known, [f"2008_{number:06d}" for number in range(NUM)], CLASSES, "val"
    )


def read_voc(text):
    """Read a class's file as the devkit's `textread(..., '%s %f')` does: identifiers and
    confidences.
    """
    rows = [line.split(" ") for line in text.splitlines()]
    assert all(len(row) == 2 for row in rows)
    return {image: float(confidence) for image, confidence in rows}


@pytest.mark.parametrize("competition", ["comp1", "comp2"])
def test_voc_files_give_back_ranking_and_average_precision(predictions, competition, tmp_path):
    packed_by = "python -m preprocess.shard --source voc --root VOC2007"
    archive = write_export("voc", tmp_path, predictions, competition, packed_by)
    assert archive == tmp_path / f"{competition}_cls_val.tar.gz"
    expected = average_precision(predictions.scores, predictions.labels, predictions.known)
    with tarfile.open(archive) as packed:
        names = [f"results/VOC2007/Main/{competition}_cls_val_{name}.txt" for name in CLASSES]
        assert packed.getnames() == names
        for column, name in enumerate(names):
            text = (tmp_path / name).read_text()
            assert packed.extractfile(name).read().decode() == text
            confidences = read_voc(text)
            assert list(confidences) == predictions.keys
            given = np.array(list(confidences.values()))
            assert torch.equal(torch.from_numpy(given).float(), predictions.scores[:, column])
            known = predictions.known[:, column].numpy()
            truth = predictions.labels[:, column].numpy()
            assert average_precision_score(truth[known], given[known]) == pytest.approx(
                float(expected[column]), 1e-12
            )


def test_voc_archives_of_the_same_scores_are_the_same_bytes(predictions, tmp_path):
    archives = [write_export("voc", tmp_path / name, predictions, "comp2", "") for name in "ab"]
    assert archives[0].read_bytes() == archives[1].read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "comp2_cls_val.tar.gz",
        "results",
    ]


def test_the_year_is_that_of_the_data():
    assert (
        voc_year("python -m preprocess.shard --source voc --root VOC2010 --max-side 500")
        == "VOC2010"
    )
    assert voc_year("python -m preprocess.shard") == "VOC2012"


def test_voc_names_that_make_no_file_or_image_are_refused():
    check_voc_names(["tv monitor", "..a"], ["2008_000001", "photo%2E1"], "val")
    check_voc_names(["x" * (255 - len("comp2_cls_val_.txt.tmp"))], [], "val")
    with pytest.raises(
        DataError, match="is longer than the 233 bytes that a file's name has; give csv"
    ):
        check_voc_names(["é" * 117], [], "val")
    with pytest.raises(DataError, match="class 'a/b' cannot be part of a file's name"):
        check_voc_names(["dog", "a/b"], [], "val")
    for key in (f"{'x' * 47}~0123456789abcdef", "photo%201", "photo%0A1"):
        with pytest.raises(DataError, match="does not tell an image identifier without spaces"):
            check_voc_names(["dog"], ["2008_000001", key], "val")


def test_voc_identifiers_are_the_images_names(predictions, tmp_path):
    keys = ["photo%2E1", "%C3%A4-2", *predictions.keys[2:]]
    named = Predictions(
        predictions.scores, predictions.labels, predictions.known, keys, CLASSES, "val"
    )
    write_export("voc", tmp_path, named, "comp2", "")
    text = (tmp_path / "results/VOC2012/Main/comp2_cls_val_aeroplane.txt").read_text(
        encoding="utf-8"
    )
    assert list(read_voc(text))[:3] == ["photo.1", "ä-2", "2008_000002"]


def columns_of(predictions):
    return ["key", *(f"score_{name}" for name in CLASSES), *(f"label_{name}" for name in CLASSES)]


def test_csv_gives_back_scores_labels_and_what_is_ignored(predictions, tmp_path):
    write_csv(tmp_path / "predictions.csv", predictions)
    with open(tmp_path / "predictions.csv", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == columns_of(predictions)
    assert [row[0] for row in rows] == predictions.keys
    scores = torch.tensor([[float(cell) for cell in row[1:4]] for row in rows])
    assert torch.equal(scores, predictions.scores)
    marks = np.array([row[4:] for row in rows])
    assert set(marks.ravel()) == {"", "0", "1"}
    np.testing.assert_array_equal(marks != "", predictions.known.numpy())
    np.testing.assert_array_equal(marks == "1", (predictions.labels & predictions.known).numpy())


def test_parquet_gives_back_scores_labels_and_what_is_ignored(predictions, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_parquet(tmp_path / "predictions.parquet", predictions)
    table = parquet.read_table(tmp_path / "predictions.parquet")
    assert table.column_names == columns_of(predictions)
    assert table["key"].to_pylist() == predictions.keys
    for column, name in enumerate(CLASSES):
        assert str(table[f"score_{name}"].type) == "float"
        assert torch.equal(
            torch.tensor(table[f"score_{name}"].to_pylist()), predictions.scores[:, column]
        )
        known, labels = (
            predictions.known[:, column].tolist(),
            predictions.labels[:, column].tolist(),
        )
        expected = [label if there else None for label, there in zip(labels, known, strict=True)]
        assert table[f"label_{name}"].to_pylist() == expected


def test_no_score_is_made_up_for_what_could_not_be_read(predictions, tmp_path):
    lost = predictions.keys[1]
    voc, table, parquet = (
        write_export(kind, tmp_path, predictions, "comp2", "", {lost}) for kind in KINDS
    )
    assert voc.exists()
    lines = (tmp_path / "results/VOC2012/Main/comp2_cls_val_aeroplane.txt").read_text().splitlines()
    assert len(lines) == len(predictions.keys) - 1
    with open(table, newline="") as file:
        rows = {row[0]: row[1:4] for row in csv.reader(file)}
    assert rows[lost] == ["", "", ""]
    assert "" not in rows[predictions.keys[0]]
    scores = (
        pytest.importorskip("pyarrow.parquet").read_table(parquet)["score_aeroplane"].to_pylist()
    )
    assert [number for number, score in enumerate(scores) if score is None] == [1]


def test_what_cannot_be_exported_is_said_before_anything_is_predicted(monkeypatch):
    assert export_kinds("") == []
    assert export_kinds("csv, voc,csv") == ["csv", "voc"]
    with pytest.raises(
        DataError,
        match=r"^export is 'xls': give voc, csv, parquet, or several separated by commas$",
    ):
        export_kinds("csv,xls")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    with pytest.raises(
        DataError,
        match=r"needs the package pyarrow: pip install 'tarmac-vision\[parquet\]', or give csv",
    ):
        export_kinds("parquet")
    assert export_kinds("csv") == ["csv"]
