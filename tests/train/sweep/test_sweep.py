"""Sweeps: what is refused, the same runs as alone, killed and resumed, several processes, the page."""

import json
import re
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch

from shards.errors import DataError
from tests.train.conftest import command, fresh, ranks, succeed
from tests.train.here import cpu
from tests.train.test_training import interrupted_in_the_middle, same, weights
from train.config import TrainConfig
from train.loop import train
from train.run import checkpoint
from train.run.folder import read_metrics
from train.run.progress import Best
from train.sweep.comparison import Outcome, ranked, sweep_results, sweep_table, winner
from train.sweep.points import parse_sweep, points
from train.sweep.sweep import goes_on, sweep
from train.sweep.sweep_page import render_sweep

RUNS = ("lr=0.03", "lr=0.006", "lr=1000000000")
SWEEP = ["--sweep", "lr=0.03,0.006,1e9"]


def test_points_are_every_combination_in_order():
    config = TrainConfig(out="runs/x", sweep="lr=0.01,1e-5, momentum=0,0.90,seed=7")
    assert parse_sweep(config.sweep) == {"lr": [0.01, 1e-5], "momentum": [0.0, 0.9], "seed": [7]}
    found = points(config)
    assert [point.name for point in found] == [
        "lr=0.01_momentum=0_seed=7",
        "lr=0.01_momentum=0.9_seed=7",
        "lr=1e-05_momentum=0_seed=7",
        "lr=1e-05_momentum=0.9_seed=7",
    ]
    for point in found:
        assert {name: getattr(point.config, name) for name in point.values} == point.values
        assert point.config.out == f"runs/x/{point.name}"
        assert point.config.sweep == ""
        assert re.fullmatch(r"[\w.=+-]+", point.name)
    assert parse_sweep("drop-rate=0,0.5") == {"drop_rate": [0.0, 0.5]}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("0.1,0.2", "give an option and its values"),
        ("rate=0.1", "no option 'rate'; python -m train --help lists the options$"),
        ("learning-rate=0.1", r"no option 'learning_rate': did you mean lr\?$"),
        ("momentun=0.1", r"no option 'momentun': did you mean momentum\?$"),
        ("model=1", "model is no numeric option; sweep one that is a number, such as lr$"),
        ("pretrained=1", "pretrained is no numeric option"),
        ("crop_scale=1", "crop_scale is no numeric option"),
        ("lr=0.1,1e-1", "lr has the value 0.1 twice"),
        ("lr=0.1,lr=0.2", "names lr twice"),
        ("lr=", "lr takes numbers, not ''"),
        ("lr=0.1,", "lr takes numbers, not ''"),
        ("lr=fast", "lr takes numbers, not 'fast'"),
        ("lr=inf", "lr cannot be inf"),
        ("epochs=1.5", "epochs takes whole numbers, not '1.5'"),
        ("lr=0.1,-1", "lr is -1.0: give a number above 0"),
        ("momentum=0,1", "momentum is 1.0: give a number from 0 to below 1"),
    ],
)
def test_what_cannot_be_swept_is_refused_at_once(text, says):
    with pytest.raises(DataError, match=f"sweep is {re.escape(text)}: .*{says}"):
        points(TrainConfig(sweep=text))


def test_a_refused_sweep_trains_nothing(tmp_path):
    result = fresh("train", "--sweep", "lr=0.1,-1", "--out", str(tmp_path / "sweep"))
    assert result.returncode == 2
    assert (
        result.stderr.splitlines()[-1]
        == "error: sweep is lr=0.1,-1: lr is -1.0: give a number above 0"
    )
    # of a recipe with adamw
    result = fresh("train", "--sweep", "momentum=0,0.9", "--out", str(tmp_path / "sweep"))
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == (
        "error: sweep is momentum=0,0.9: momentum is 0.9, but optimizer is adamw: leave it out "
        "(--momentum 0), or give --optimizer sgd"
    )
    assert not (tmp_path / "sweep").exists()


def test_a_run_that_fails_does_not_end_the_others(shades, tmp_path, capsys):
    """One cannot pair its samples, one runs out of memory: the third is the best, then one is
    mended and resumed.
    """
    small = {
        "model": "cnn",
        "size": 32,
        "epochs": 1,
        "tensorboard": False,
        "mixup": 0.2,
        "sweep": "",
    }
    config = TrainConfig(data=str(shades), out=str(tmp_path / "sweep"), **small)

    def train_or_fail(config):
        if config.global_batch_size == 18:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")
        return train(config)

    with cpu() as patch:
        patch.setattr("train.sweep.sweep.train", train_or_fail)
        with pytest.raises(
            DataError,
            match=r"2 of 3 runs failed: global_batch_size=15 \(.*choose a multiple of 2\); ",
        ) as e:
            sweep(replace(config, sweep="global_batch_size=15,18,16"))
    assert (
        "global_batch_size=18 (out of memory: CUDA out of memory; give a smaller "
        "--global-batch-size" in str(e.value)
    )
    result = json.loads((tmp_path / "sweep/sweep.json").read_text())
    assert result["best"] == {"run": "global_batch_size=16", "epoch": 1}
    assert [run["status"] for run in result["runs"]] == ["failed", "failed", "finished"]
    assert "choose a multiple of 2" in result["runs"][0]["error"]
    assert (tmp_path / "sweep/best/model.safetensors").is_file()
    assert (
        "global_batch_size=15 failed: global_batch_size is 15 on 1 rank" in capsys.readouterr().out
    )
    with cpu():
        assert sweep(replace(config, sweep="global_batch_size=18,16", resume=True))
    runs = json.loads((tmp_path / "sweep/sweep.json").read_text())["runs"]
    assert [run["status"] for run in runs] == ["finished", "finished"]
    assert "error" not in runs[0]


@pytest.fixture(scope="session")
def sweep_args(train_args):
    return [*train_args, *SWEEP]


@pytest.fixture(scope="session")
def whole_sweep(sweep_args, tmp_path_factory):
    """A sweep that nobody disturbed, and what it printed."""
    out = tmp_path_factory.mktemp("sweeps") / "whole"
    return out, succeed(command(*sweep_args, "--out", str(out)))


@pytest.mark.slow
def test_a_run_of_a_sweep_is_the_run_alone(whole_sweep, whole_run):
    """The second of three in one process: lr is the recipe's own."""
    out, _ = whole_sweep
    assert same(weights(out / "lr=0.006"), weights(whole_run))
    assert same(weights(out / "lr=0.006", "best"), weights(whole_run, "best"))


@pytest.mark.slow
def test_the_best_epoch_of_all_runs_stands_at_the_top(whole_sweep):
    out, printed = whole_sweep
    values = {name: [line["val_mAP"] for line in read_metrics(out / name)] for name in RUNS}
    name = max(values, key=lambda name: max(values[name], default=0))
    epoch = 1 + int(np.argmax(values[name]))
    result = json.loads((out / "sweep.json").read_text())
    assert result["best"] == {"run": name, "epoch": epoch}
    assert [run["status"] for run in result["runs"]] == ["finished", "finished", "diverged"]
    assert f"best: {name}, epoch {epoch}, mAP {max(values[name]):.4f}, {out}/best" in printed
    assert "epoch 1: the loss is" in printed
    assert same(weights(out, "best"), weights(out / name, "best"))
    assert (out / "config.yaml").read_bytes() == (out / name / "config.yaml").read_bytes()
    assert read_metrics(out) == read_metrics(out / name)
    assert checkpoint.read(out / "best").meta.progress.best == Best(
        "val_mAP", max(values[name]), epoch
    )


@pytest.mark.slow
@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_sweep_resumes_to_the_same_bits(kill, whole_sweep, sweep_args, tmp_path):
    whole, _ = whole_sweep
    out = tmp_path / "whole"
    args = [*sweep_args, "--out", str(out), "--save-every-steps", "2"]
    # what is resumed may have further values
    fewer = ["--sweep", "lr=0.03,0.006"] if kill == signal.SIGINT else []
    begun = [*(arg for arg in args if not fewer or arg not in SWEEP), *fewer]
    status, output = interrupted_in_the_middle(out / RUNS[1], kill, *begun)
    assert not (out / "best").exists()
    if kill == signal.SIGINT:
        assert status == 130
        assert "go on with the same command and --resume" in output
        assert "Traceback" not in output
        runs = json.loads((out / "sweep.json").read_text())["runs"]
        assert [run["status"] for run in runs] == ["finished", "stopped"]
    printed = succeed(command(*args, "--resume"))
    assert f"{RUNS[0]}: run 1 of 3, ended before" in printed
    assert f"resuming {out / RUNS[1]}" in printed
    for name in RUNS[:2]:
        assert same(weights(out / name), weights(whole / name))
    assert same(weights(out, "best"), weights(whole, "best"))
    assert (out / "sweep.json").read_bytes() == (whole / "sweep.json").read_bytes()
    assert sorted(path.name for path in out.iterdir()) == sorted(
        path.name for path in whole.iterdir()
    )


def test_only_the_same_sweep_is_gone_on_with(tmp_path):
    config = TrainConfig(sweep="lr=0.1,0.2", out=str(tmp_path))
    assert not goes_on(tmp_path / "nothing", config)
    (tmp_path / "sweep.yaml").write_text(config.to_yaml())
    for same_one in (
        config,
        replace(config, sweep="lr=0.2,0.3"),
        replace(config, lr=0.7, num_threads=1),
    ):
        assert goes_on(tmp_path, same_one)
    with pytest.raises(DataError, match=r"sweep\.yaml: was trained with seed 0, now 5"):
        goes_on(tmp_path, replace(config, seed=5))
    with pytest.raises(
        DataError, match=r"holds a sweep of lr=0.1,0.2, now lr=0.1,momentum=0.9: give another --out"
    ):
        goes_on(tmp_path, replace(config, sweep="lr=0.1,momentum=0.9"))
    (tmp_path / "last").mkdir()
    (tmp_path / "last/checkpoint.json").touch()
    with pytest.raises(DataError, match="holds a run, not a sweep"):
        goes_on(tmp_path, config)


@pytest.mark.slow
def test_two_processes_sweep_as_one_does(sweep_args, tmp_path):
    args = [*sweep_args, "--drop-rate", "0", "--epochs", "1", "--cache", "ram"]
    succeed(command(*args, "--out", str(tmp_path / "one")))
    printed = succeed(ranks(2, *args, "--out", str(tmp_path / "two")))
    assert printed.count("on 2 processes") == 3
    for name in RUNS:
        one, two = (read_metrics(tmp_path / number / name) for number in ("one", "two"))
        for key in ("train_loss", "val_loss", "val_mAP"):
            np.testing.assert_allclose([x[key] for x in one], [x[key] for x in two], rtol=1e-3)
    results = [
        json.loads((tmp_path / number / "sweep.json").read_text()) for number in ("one", "two")
    ]
    assert results[0]["best"] == results[1]["best"]


def outcome(name, lr, values, status="finished", key="val_mAP"):
    rows = [
        {"epoch": e, "train_loss": 1 / e, "val_loss": 2 / e, key: v, "lr": lr}
        for e, v in enumerate(values, 1)
    ]
    known = [(value, -epoch) for epoch, value in enumerate(values, 1) if value is not None]
    best = (
        Best(key, max(known)[0], -max(known)[1])
        if known
        else (Best(key, None, 1) if values else None)
    )
    return Outcome(name, {"lr": lr}, 3, status, best, rows)


OUTCOMES = [
    outcome("lr=0.1", 0.1, [0.25, 0.5, 0.5]),
    outcome("lr=0.2", 0.2, [None, None, None]),
    outcome("lr=0.3", 0.3, [0.5], "stopped"),
    outcome("lr=0.4", 0.4, [0.75, 0.25], "diverged"),
    outcome("lr=0.5", 0.5, [], "not started"),
]


def test_runs_are_ranked_by_their_best_epoch_and_ties_keep_their_order():
    assert [each.name for each in ranked(OUTCOMES)] == [
        "lr=0.4",
        "lr=0.1",
        "lr=0.3",
        "lr=0.2",
        "lr=0.5",
    ]
    assert winner(OUTCOMES).name == "lr=0.4"
    assert winner(OUTCOMES[4:]) is None
    assert winner(OUTCOMES[1:2]).name == "lr=0.2"
    lines = sweep_table(OUTCOMES).splitlines()
    assert lines[1].split() == ["lr=0.4", "1/3", "0.7500*", "2.0000", "1.0000", "diverged"]
    assert lines[2].split() == ["lr=0.1", "2/3", "0.5000", "1.0000", "0.5000"]
    assert lines[5].split() == ["lr=0.5", "-", "-", "-", "-", "not", "started"]
    assert sweep_results(OUTCOMES)["best"] == {"run": "lr=0.4", "epoch": 1}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_shows_every_run_in_its_own_colour(scheme, browser, tmp_path):
    path = tmp_path / "sweep.html"
    config = TrainConfig(out="runs/<b>x", sweep="lr=0.1,0.2,0.3,0.4,0.5")
    path.write_text(
        render_sweep(
            tmp_path / "<b>x", config, OUTCOMES, "seed: 0 # </pre><script>alert(1)</script>\n"
        )
    )
    page = browser.new_page(color_scheme=scheme, viewport={"width": 390, "height": 800})
    trouble = []
    page.on("console", lambda message: trouble.append(message.text))
    page.on("dialog", lambda dialog: (trouble.append(dialog.message), dialog.dismiss()))
    page.goto(path.as_uri(), wait_until="load")
    assert page.inner_text(".answer") == "0.7500"
    assert page.inner_text(".lead") == "lr=0.4, epoch 1 of 3: the best of 5 runs so far."
    rows = page.eval_on_selector_all("tbody tr", "rows => rows.map(row => row.cells[0].innerText)")
    assert rows == [each.name for each in ranked(OUTCOMES)]
    colour = "each => getComputedStyle(each)[{ path: 'stroke', use: 'fill', I: 'backgroundColor' }[each.tagName]]"
    swatches = page.eval_on_selector_all(".legend .swatch", f"all => all.map({colour})")
    assert len(set(swatches)) == 5
    lines = f"all => all.map(line => ({colour})(line.querySelector(':scope > path, use')))"
    losses = page.eval_on_selector_all("[id^='loss-curve']", lines)
    assert losses == 2 * swatches[:4]
    metric = page.eval_on_selector_all(
        "[id^='metric-curve']", "all => all.map(g => g.id.slice(-1))"
    )
    assert metric == ["0", "2", "3", "0", "2", "3"]
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert not trouble
    page.close()
