"""Whether ranks see one run folder; tests/faults/nodes.py has two machines that do not."""

import os
from types import SimpleNamespace

import pytest

from train.run import shared_folder
from train.run.folder import TOKEN_PREFIX, RunFolder
from train.run.shared_folder import _kind, _missed_by, _Token, check_shared


def test_a_token_leaves_nothing_behind(tmp_path):
    deep = tmp_path / "runs" / "name"
    token = _Token(deep)
    assert (deep / token.name).exists()
    assert _missed_by(deep, token.name) == ""
    token.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_stays(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").touch()
    token = _Token(tmp_path / "run")
    token.remove()
    token.remove()
    assert os.listdir(tmp_path / "run") == ["config.yaml"]


def test_what_cannot_be_written_is_left_to_who_begins_the_run(tmp_path):
    (tmp_path / "file").touch()
    token = _Token(tmp_path / "file" / "run")
    assert token.name == ""
    assert _missed_by(tmp_path / "file" / "run", token.name) == ""


def test_a_file_that_appears_late_is_seen(tmp_path, monkeypatch):
    run = tmp_path / "run"
    waits = []

    def appear(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            run.mkdir()
            (run / "token").touch()

    clock = SimpleNamespace(monotonic=lambda: 0.0, sleep=appear)
    monkeypatch.setattr(shared_folder, "time", clock)
    assert _missed_by(run, "token") == ""
    assert waits == [shared_folder.LOOK_AGAIN_S] * 2


def test_one_that_never_appears_is_told_with_rank_and_host(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_folder, "LOCAL_S", 0.2)
    monkeypatch.setattr(shared_folder, "NETWORK_S", 0.2)
    monkeypatch.setenv("RANK", "5")
    assert _missed_by(tmp_path / "run", "token").startswith("rank 5 on ")


def test_one_rank_writes_nothing(tmp_path):
    check_shared(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_token_that_a_killed_start_left_is_no_strange_file(tmp_path):
    (tmp_path / f"{TOKEN_PREFIX}0123").touch()
    folder = RunFolder(tmp_path)
    assert folder.begin("a: 1\n") is None
    folder.unlock()
    assert (tmp_path / "config.yaml").read_text() == "a: 1\n"


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="/proc is a file system of its own on Linux")
def test_the_kind_of_a_file_system_is_that_of_the_nearest_folder():
    assert _kind(shared_folder.Path("/proc/nothing/here")) == "proc"
    assert _kind(shared_folder.Path("/")) != ""
