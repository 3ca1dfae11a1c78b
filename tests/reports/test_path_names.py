"""Folders and files whose names are no UTF-8: the answer, or one line before anything is computed."""

import json
import os
import sys

import numpy as np
import pytest

from eval.__main__ import main as evaluate
from eval.predict import main as predict
from preprocess.inspect import main as inspect
from preprocess.verify import main as verify
from shards.commandline import run
from tests.preprocess.commands import shard
from tests.train.here import command_here, cpu


@pytest.fixture
def given(monkeypatch, capsys):
    """Run a command here: what it prints; Python's own capture takes any character."""

    def call(main, *args: str) -> str:
        with cpu():
            monkeypatch.setattr(sys, "argv", ["command", *map(str, args)])
            run(main)
        return capsys.readouterr().out

    return call


def test_packing_inspecting_and_verifying(animals, tmp_path, monkeypatch, capsys, given):
    out = tmp_path / os.fsdecode(b"ni\xf1os")
    source = ("--source", "imagefolder", "--root", str(animals / "source"))
    status, _, error = shard(monkeypatch, capsys, *source, "--out", str(out / "data"))
    assert (status, error) == (0, "")
    given(inspect, out / "data", "--out", out / "seen", "--no-duplicates")
    assert (out / "seen/inspect.html").is_file()
    assert "all intact" in given(verify, out / "data")


def test_evaluation_and_prediction_write_all_they_have_computed(animals, given):
    given(evaluate, "--ckpt", animals / "run/best", "--export", "csv", "--baseline", "")
    results = animals / "run/eval-val"
    metrics = json.loads((results / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["data"] == str(animals / "data")
    assert len(np.load(results / "predictions.npz")["keys"]) == 36
    assert "<html" in (results / "report.html").read_text(encoding="utf-8")
    csv = animals / "scores.csv"
    shown = given(predict, "--ckpt", animals / "run/best", animals / "source/val", "--csv", csv)
    assert len(shown.splitlines()) == 36
    assert len(csv.read_bytes().splitlines()) == 37


def test_a_run_from_within_such_a_folder_has_a_report(animals, given, monkeypatch):
    monkeypatch.chdir(animals)
    given(evaluate, "--ckpt", "run/last")
    monkeypatch.chdir(animals / "run")
    given(evaluate, "--ckpt", "last", "--out", "again")
    assert (animals / "run/again/report.html").is_file()


def test_training_with_tensorboard_is_refused_before_anything_is_written(animals, capsys):
    out = animals / "with tensorboard"
    args = ("train", "--data", str(animals / "data"), "--out", str(out), "--model", "cnn")
    status, _, error = command_here(capsys, *args, "--size", "32")
    assert status == 2
    assert "TensorBoard writes into no folder whose name is no UTF-8" in error
    assert not out.exists()
