"""Records that a generator of one's own yields, and what it may yield by mistake."""

import pytest

from preprocess.record import Record, Source, listed_records
from shards.errors import DataError
from shards.index import DatasetIndex
from tests.conftest import jpeg, photograph
from tests.preprocess.commands import shard


class Generated(Source):
    """Images that are in no file, made one after the other."""

    class_names = ("even", "odd")

    def __init__(self, root):
        self.root = root

    def splits(self):
        return ("all",)

    def records(self, split):
        for number in range(6):
            data = jpeg(photograph(40, 30, number))
            yield Record(f"made{number}", self.root, f"made {number}", (number % 2,), (), data=data)


@pytest.mark.parametrize("held_out", [(), ("--val-fraction", "0.5")])
def test_a_generator_is_packed(tmp_path, monkeypatch, capsys, held_out):
    """It ended in `object of type 'generator' has no len()`."""
    args = ["--source", f"{__name__}:Generated", "--root", str(tmp_path), *held_out]
    status, said, errors = shard(monkeypatch, capsys, *args, "--list")
    assert (status, errors) == (0, "")
    assert "even" in said
    status, _, errors = shard(monkeypatch, capsys, *args, "--out", str(tmp_path / "out"))
    assert (status, errors) == (0, "")
    splits = ("train", "val") if held_out else ("all",)
    found = [DatasetIndex.open(tmp_path / "out" / split) for split in splits]
    keys = [key for index in found for key in index.keys().tolist()]
    assert sorted(keys) == [f"made{number}" for number in range(6)]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (None, r"Generated: records\('all'\) returned None; return a list of Record"),
        (iter([("made0", b"")]), r"all: records has \('made0', b''\), which is no .*Record"),
        ([{"name": "made0"}], "all: records has {'name': 'made0'}, which is no .*Record"),
        (iter([]), "split 'all' has no image"),
    ],
)
def test_what_is_no_record_is_one_line(tmp_path, given, says):
    source = Generated(tmp_path)
    source.records = lambda split: given
    with pytest.raises(DataError, match=says):
        listed_records(source, "all")
