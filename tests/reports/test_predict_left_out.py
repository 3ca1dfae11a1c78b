"""`python -m eval.predict` names what it leaves out of a folder; what systems leave behind is
nobody's.
"""

import csv

import pytest

from eval.prediction.pictures import find_pictures
from shards.errors import DataError
from tests.conftest import pack, write_photographs
from tests.eval.conftest import predict  # noqa: F401
from tests.eval.prediction.test_prediction import make_run

JUNK = (
    "._0.jpg",
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
    "__MACOSX/._0.jpg",
    "__MACOSX/0.jpg",
    "@eaDir/0.jpg/SYNOPHOTO_THUMB_M.jpg",
    ".ipynb_checkpoints/0-checkpoint.jpg",
    ".git/config",
)


def fill(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return root


def test_what_is_left_out_of_a_folder_is_counted_and_named(tmp_path):
    fill(tmp_path, "a.jpg", "b/c.PNG", "a.txt", "b/d.cr2", "b/e.mp4", "z.raw", *JUNK)
    (tmp_path / "linked").symlink_to(tmp_path / "b")
    found = find_pictures([str(tmp_path)])
    assert found.pictures == [tmp_path / "a.jpg", tmp_path / "b/c.PNG"]
    files, links = found.left_out()
    three = ", ".join(str(tmp_path / name) for name in ("a.txt", "b/d.cr2", "b/e.mp4"))
    assert files == f"left out: 4 files are no pictures by their names: {three} and 1 more"
    assert links == f"left out: 1 link to a folder, not followed: {tmp_path / 'linked'}"


def test_nothing_is_said_where_nothing_is_left_out(tmp_path):
    fill(tmp_path, "a.jpg", *JUNK)
    found = find_pictures([str(tmp_path), str(fill(tmp_path, "b.weird") / "b.weird")])
    assert found.pictures == [tmp_path / "a.jpg", tmp_path / "b.weird"]
    assert found.left_out() == []  # b.weird is asked for by its name


def test_a_folder_without_pictures_says_what_it_holds(tmp_path):
    fill(tmp_path, "a.cr2", *JUNK)
    with pytest.raises(
        DataError, match=r"holds no picture with one of the suffixes .*; it holds .*a\.cr2$"
    ):
        find_pictures([str(tmp_path)])


def test_predictions_and_table_hold_the_pictures_and_stderr_the_rest(tmp_path, predict):  # noqa: F811
    records = write_photographs(tmp_path / "album", 3)
    pack(records, tmp_path / "data" / "val")
    ckpt = make_run(tmp_path / "run", tmp_path / "data", model="test_resnet")
    fill(tmp_path / "album", "notes.txt", "clip.mov", "._0.jpg", "__MACOSX/._0.jpg")
    status, out, err = predict("--ckpt", ckpt, "--csv", tmp_path / "s.csv", tmp_path / "album")
    assert (status, len(out.splitlines())) == (0, 3)
    assert err == (
        f"left out: 2 files are no pictures by their names: {tmp_path}/album/clip.mov, "
        f"{tmp_path}/album/notes.txt\n"
    )
    with (tmp_path / "s.csv").open() as file:
        assert [row["path"] for row in csv.DictReader(file)] == [
            str(record.path) for record in records
        ]
