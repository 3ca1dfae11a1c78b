"""JSON that is nested too deeply for Python's parser gets the line of any other malformed JSON."""

from collections.abc import Callable
from pathlib import Path

import pytest

from eval.results.baseline import read_baseline
from preprocess.packing.folder_state import FINISHED_NAME, finished_shard
from preprocess.sources.digits import SETTINGS_FILE, write_digits
from shards.errors import DataError
from shards.index import DatasetIndex
from train.run import checkpoint
from train.run.folder import METRICS_NAME, read_metrics
from train.sweep import sweep

DEPTH = 200_000


@pytest.mark.parametrize(
    ("name", "read", "line"),
    [
        ("metrics.json", read_baseline, "is not a metrics.json of this evaluator"),
        ("checkpoint.json", lambda path: checkpoint.read(path.parent), "not a checkpoint's"),
        (sweep.RESULTS, lambda path: sweep._diverged(path.parent), "not the results of a sweep"),
        (SETTINGS_FILE, lambda path: write_digits(path.parent, 1, 1), "no digits"),
        ("index.json", lambda path: DatasetIndex.open(path.parent), "index.json"),
    ],
)
@pytest.mark.parametrize("bracket", ["[", '{"a":'])
def test_it_is_refused(
    tmp_path: Path, name: str, read: Callable[[Path], object], line: str, bracket: str
):
    path = tmp_path / name
    path.write_text(bracket * DEPTH, encoding="utf-8")
    with pytest.raises(DataError, match=line) as refused:
        read(path)
    assert "\n" not in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_a_line_of_metrics_is_left_out(tmp_path):
    lines = '{"epoch": 1}\n' + "[" * DEPTH + '\n{"epoch": 2}\n'
    (tmp_path / METRICS_NAME).write_text(lines, encoding="utf-8")
    assert read_metrics(tmp_path) == [{"epoch": 1}, {"epoch": 2}]


def test_a_shard_that_seemed_finished_is_packed_again(tmp_path):
    (tmp_path / FINISHED_NAME).mkdir()
    (tmp_path / FINISHED_NAME / "train-000000.json").write_text("[" * DEPTH, encoding="utf-8")
    assert finished_shard(tmp_path, "of the part", "train-000000.tar") is None
