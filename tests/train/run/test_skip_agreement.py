"""A run over a damaged dataset: it stops with one line, or goes on without the bad samples, on any
ranks alike.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from shards.index import DatasetIndex
from tests.train.conftest import SMALL, command, launch, ranks, succeed
from train.run.folder import read_metrics

pytestmark = pytest.mark.slow


def harm(root: Path, numbers) -> list[str]:
    """Overwrite the headers of some images; return their keys."""
    index = DatasetIndex.open(root)
    for number in numbers:
        row = index.samples[number]
        with open(index.shard_path(int(row["shard"])), "r+b") as file:
            file.seek(int(row["offset"][0]) + 10)
            file.write(bytes(80))
    return [index.key(number) for number in numbers]


@pytest.fixture(scope="module")
def harmed(digits, tmp_path_factory) -> tuple[Path, list[str], list[str]]:
    """Two bad samples of 200 and one of 90: as many as are put up with."""
    data = Path(shutil.copytree(digits, tmp_path_factory.mktemp("harmed") / "data"))
    return data, harm(data / "train", (5, 150)), harm(data / "val", (42,))


def arguments(data: Path, out: Path, *more: str) -> list[str]:
    short = ["--epochs", "2", "--global-batch-size", "16", "--drop-rate", "0"]
    return ["train", "--data", str(data), "--out", str(out), *SMALL, *short, *more]


def test_a_run_skips_alike_on_one_rank_and_on_two(harmed, tmp_path):
    data, bad, bad_val = harmed
    stopped = command(*arguments(data, tmp_path / "one"))
    assert stopped.returncode == 2
    last = stopped.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: {data}/train/train-00000")
    assert "not a JPEG" in last
    assert "run the same preprocess.shard command again" in last

    output = succeed(command(*arguments(data, tmp_path / "one", "--on-bad-sample", "skip")))
    assert output.count("skipped ") == 3
    succeed(ranks(2, *arguments(data, tmp_path / "two", "--on-bad-sample", "skip")))
    one, two = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    for name in ("train_loss", "val_loss", "val_mAP"):
        np.testing.assert_allclose([x[name] for x in one], [x[name] for x in two], rtol=1e-3)
    for run in ("one", "two"):
        lines = [
            json.loads(line)
            for line in (tmp_path / run / "bad_samples.jsonl").read_text().splitlines()
        ]
        assert sorted((line["split"], line["key"]) for line in lines) == sorted(
            [*(("train", key) for key in bad), *(("val", key) for key in bad_val)]
        )
        assert all("not a JPEG" in line["reason"] for line in lines)

    refused = command("eval", "--ckpt", str(tmp_path / "one/best"), "--data", str(data))
    assert refused.returncode == 2
    evaluate = [
        "eval",
        "--ckpt",
        str(tmp_path / "one/best"),
        "--data",
        str(data),
        "--on-bad-sample",
        "skip",
    ]
    output = succeed(command(*evaluate, "--out", str(tmp_path / "eval")))
    assert f"not evaluated: 1 sample could not be read: {bad_val[0]}" in output
    metrics = json.loads((tmp_path / "eval/metrics.json").read_text())
    assert [each["key"] for each in metrics["not_evaluated"]] == bad_val
    assert (
        f"1 sample could not be read: {bad_val[0]}" in (tmp_path / "eval/report.html").read_text()
    )
    assert metrics["mAP"] == pytest.approx(max(line["val_mAP"] for line in one), abs=1e-9)
    predictions = np.load(tmp_path / "eval/predictions.npz")
    assert len(predictions["keys"]) == 90
    assert not predictions["known"][42].any()
    assert predictions["known"][[0, 41, 43, 89]].any(1).all()


def test_past_the_bound_the_run_stops_with_one_line(harmed, tmp_path):
    data = Path(shutil.copytree(harmed[0], tmp_path / "data"))
    harm(data / "train", (7,))
    for run in (command, lambda *args: launch(2, *args)):
        stopped = run(*arguments(data, tmp_path / "run", "--on-bad-sample", "skip"))
        assert stopped.returncode != 0
        lines = [line for line in stopped.stderr.splitlines() if line.startswith("error: ")]
        assert lines, stopped.stderr
        said = "stopping: 3 of 200 samples could not be read (limit 2); list them with: python -m "
        assert all(said in line for line in lines)
