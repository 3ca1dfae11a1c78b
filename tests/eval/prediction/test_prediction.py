"""`python -m eval`: what is predicted, by which networks, at which size, and what leaves the house."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from sklearn.metrics import average_precision_score

from eval.__main__ import main
from eval.config import EvalConfig, results_name
from shards.commandline import joined
from shards.errors import DataError
from shards.index import DatasetIndex
from tests.conftest import pack, write_photographs
from tests.train.conftest import command, ranks, succeed
from train.config import TrainConfig
from train.network.build import build_network
from train.run import checkpoint
from train.run.checkpoint import Meta
from train.run.progress import Progress

MEAN, STD = (0.45, 0.4, 0.35), (0.25, 0.25, 0.25)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """45 photographs of 11 classes as split `val`."""
    root = tmp_path_factory.mktemp("prediction")
    pack(write_photographs(root / "photographs", 45), root / "data" / "val")
    return root / "data"


def make_run(
    folder, data, seed=0, model="test_convnext", size=32, task="multilabel", classes=None, **options
):
    """A checkpoint of a network that nobody trained, but that is sure of what it says."""
    torch.manual_seed(seed)
    names = classes or DatasetIndex.open(data / "val").class_names
    network = build_network(model, len(names), size)
    network.get_classifier().weight.data.normal_(std=2.0)
    options = {"precision": "no", **options}
    config = TrainConfig(data=str(data), out=str(folder), model=model, size=size, **options)
    folder.mkdir(parents=True)
    meta = Meta(tuple(names), task, MEAN, STD, Progress(epoch=1), {}, {})
    checkpoint.save(folder / "best", config, meta, network.state_dict(), None, {})
    return folder / "best"


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return [make_run(folder / name, data, seed) for seed, name in enumerate("ab")]


@pytest.fixture
def evaluate(monkeypatch):
    """Run the command in this process: its arguments -> the folder's metrics and predictions."""

    def run(*args, out):
        AcceleratorState._reset_state(reset_partial_state=True)
        argv = [
            "eval",
            *map(str, args),
            "--classes",
            "class-1",
            "--num-threads",
            "1",
            "--local-batch-size",
            "16",
        ]
        monkeypatch.setattr(sys, "argv", argv)
        main()
        return json.loads((out / "metrics.json").read_text()), np.load(out / "predictions.npz")

    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    # the report has tests of its own
    monkeypatch.setattr("eval.evaluation.render_report", lambda *_, **__: "")
    monkeypatch.setattr("eval.evaluation.draw_figures", lambda *_: ({}, {}))
    yield run
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.slow
def test_several_checkpoints_are_the_mean_of_their_probabilities(evaluate, runs, capsys):
    one, other = (evaluate("--ckpt", run, out=run.parent / "eval-val")[1]["scores"] for run in runs)
    assert np.abs(one - other).mean() > 0.1
    both = EvalConfig(ckpt=f"{runs[0]},{runs[1]}")
    out = runs[0].parent / results_name(both, "", "val")
    metrics, predictions = evaluate("--ckpt", f"{runs[0]},{runs[1]}", out=out)
    np.testing.assert_allclose(predictions["scores"], (one + other) / 2, rtol=1e-6)
    assert metrics["prediction"]["checkpoints"] == "2"
    whole = (out / "predictions.npz").read_bytes()
    evaluate("--ckpt", runs[0], f"--ckpt={runs[1]}", out=out)
    assert (out / "predictions.npz").read_bytes() == whole
    assert str(out / "report.html") in capsys.readouterr().out


def test_a_flag_given_again_is_not_forgotten():
    assert joined(["--ckpt", "a", "--size=3", "--ckpt=b"], "--ckpt") == ["--size=3", "--ckpt=a,b"]
    assert joined(["--size", "3"], "--ckpt") == ["--size", "3"]
    assert joined(["--size", "3", "--ckpt"], "--ckpt") == ["--size", "3", "--ckpt"]


@pytest.mark.slow
def test_each_way_to_predict_has_its_own_folder_and_says_what_it_did(evaluate, runs):
    folder = runs[0].parent
    ways = {
        "eval-val": ([], "32", "no", "none"),
        "eval-val-flip-max": (["--tta", "flip", "--tta-reduce", "max"], "32", "no", "flip, max"),
        "eval-val-multiscale-40px": (
            ["--tta", "multiscale", "--size", "40"],
            "40",
            "no",
            "multiscale, mean",
        ),
        "eval-val-bf16": (["--precision", "bf16"], "32", "bf16", "none"),
    }
    scores = {}
    for name, (args, size, precision, tta) in ways.items():
        metrics, predictions = evaluate("--ckpt", runs[0], *args, out=folder / name)
        expected = {
            "checkpoints": "1",
            "size": size,
            "precision": precision,
            "test-time augmentation": tta,
        }
        assert metrics["prediction"] == expected
        scores[name] = predictions["scores"]
    assert (scores["eval-val-flip-max"] > scores["eval-val"] - 1e-6).all()
    assert 0 < np.abs(scores["eval-val-bf16"] - scores["eval-val"]).mean() < 0.02
    assert np.abs(scores["eval-val-multiscale-40px"] - scores["eval-val"]).mean() > 0.01


@pytest.mark.slow
def test_mirror_images_that_a_network_never_saw_are_said(evaluate, data, runs, tmp_path, capsys):
    unflipped = make_run(tmp_path / "c", data, flip=False)
    evaluate(
        "--ckpt",
        f"{runs[0]},{unflipped}",
        "--tta",
        "flip",
        "--out",
        tmp_path / "a",
        out=tmp_path / "a",
    )
    assert f"{unflipped}: trained without flips, --tta flip mirrors\n" in capsys.readouterr().err
    evaluate("--ckpt", runs[0], "--tta", "dihedral", "--out", tmp_path / "d", out=tmp_path / "d")
    said = f"{runs[0]}: trained without --dihedral, --tta dihedral mirrors and turns\n"
    assert said in capsys.readouterr().err
    for args in (["--ckpt", unflipped], ["--ckpt", runs[0], "--tta", "flip"]):
        evaluate(*args, "--out", tmp_path / "b", out=tmp_path / "b")
    assert "mirrors" not in capsys.readouterr().err


@pytest.mark.slow
def test_the_voc_files_have_the_average_precision_of_the_report(
    evaluate, data, runs, tmp_path, capsys
):
    args = ["--export", "voc,csv", "--voc-competition", "comp1"]
    metrics, predictions = evaluate("--ckpt", runs[0], "--out", tmp_path, *args, out=tmp_path)
    index = DatasetIndex.open(data / "val")
    for column, name in enumerate(index.class_names):
        lines = (
            (tmp_path / f"results/VOC2012/Main/comp1_cls_val_{name}.txt").read_text().splitlines()
        )
        given = np.array([float(line.split()[1]) for line in lines])
        known = index.known()[:, column]
        ap = average_precision_score(index.labels()[known, column], given[known])
        assert metrics["per_class"][name]["ap"] == pytest.approx(ap, abs=1e-12)
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 1 + len(
        predictions["keys"]
    )
    printed = capsys.readouterr().out
    assert f"\n  {tmp_path}/comp1_cls_val.tar.gz\n" in printed
    assert f"\n  {tmp_path}/predictions.csv\n" in printed


@pytest.mark.slow
def test_two_processes_predict_the_same_bytes_with_views_and_checkpoints(runs, tmp_path):
    args = [
        "eval",
        "--ckpt",
        f"{runs[0]},{runs[1]}",
        "--tta",
        "tencrop",
        "--tta-reduce",
        "max",
        "--local-batch-size",
        "16",
    ]
    succeed(command(*args, "--out", str(tmp_path / "one")))
    succeed(ranks(2, *args, "--out", str(tmp_path / "two")))
    one, two = ((tmp_path / name / "predictions.npz").read_bytes() for name in ("one", "two"))
    assert one == two


def refused(evaluate, message, *args):
    with pytest.raises(DataError, match=message) as error:
        evaluate(*args, out=None)
    assert "\n" not in str(error.value)


def test_what_cannot_be_averaged_is_refused(evaluate, data, runs, tmp_path):
    names = DatasetIndex.open(data / "val").class_names
    others = make_run(tmp_path / "others", data, classes=names[:3])
    refused(
        evaluate,
        "has 11 classes .*others/best was trained on 3",
        "--ckpt",
        runs[0],
        "--ckpt",
        others,
    )
    swapped = make_run(tmp_path / "swapped", data, classes=(names[1], names[0], *names[2:]))
    says = r"has the classes of .*swapped/best in another order \(class \d+ is .*, there .*\); pack"
    refused(evaluate, says, "--ckpt", f"{runs[0]},{swapped}")
    single = make_run(tmp_path / "single", data, task="multiclass")
    refused(
        evaluate,
        "its task is multilabel, .*single/best was trained on multiclass",
        "--ckpt",
        f"{runs[0]},{single}",
    )


@pytest.mark.slow
def test_what_cannot_be_predicted_is_refused(evaluate, data, runs, tmp_path):
    vit = make_run(tmp_path / "vit", data, model="test_vit_relpos")
    evaluate("--ckpt", vit, "--tta", "tencrop", out=tmp_path / "vit" / "eval-val-tencrop")
    message = "vit/best: its network does not take images of 4[08] pixels .*: leave out --size"
    refused(evaluate, message, "--ckpt", vit, "--tta", "multiscale")
    refused(evaluate, message, "--ckpt", f"{runs[0]},{vit}", "--size", "48")
    refused(
        evaluate, "size is 15: give at least 16 pixels, or 0", "--ckpt", runs[0], "--size", "15"
    )
    refused(evaluate, "precision 'fp16' does not work here .*give --precision run, bf16 or no", "--ckpt", runs[0],
            "--precision", "fp16")  # fmt: skip
    refused(
        evaluate,
        "tta_reduce is max, but there is one view",
        "--ckpt",
        runs[0],
        "--tta-reduce",
        "max",
    )
    refused(
        evaluate, "export is 'xls': give voc, csv, parquet", "--ckpt", runs[0], "--export", "xls"
    )
    refused(evaluate, "ckpt is empty", "--ckpt", ",")


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_predicted(
    evaluate, runs, tmp_path, monkeypatch
):
    monkeypatch.setattr("eval.evaluation._predict", lambda *_: pytest.fail("predicted"))
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="file"):
            evaluate("--ckpt", runs[0], "--out", out, out=out)


@pytest.mark.parametrize(
    "name", ["report.html", "per_class.csv", "metrics.json", "plots/top-9.png"]
)
def test_files_that_no_evaluation_wrote_are_left_as_they_are(
    name, evaluate, runs, tmp_path, monkeypatch
):
    monkeypatch.setattr("eval.evaluation._predict", lambda *_: pytest.fail("predicted"))
    (tmp_path / "plots").mkdir()
    (tmp_path / name).write_text('{"loss": 1}')
    with pytest.raises(DataError, match=f"holds {name}, .*no evaluation.*another --out") as said:
        evaluate("--ckpt", runs[0], "--out", tmp_path, out=tmp_path)
    assert "\n" not in str(said.value)
    assert (tmp_path / name).read_text() == '{"loss": 1}'


def test_thresholds_of_the_set_before_it_was_moved_are_refused(evaluate, runs, data, tmp_path):
    (tmp_path / "before").symlink_to(data)
    first = tmp_path / "first"
    evaluate("--ckpt", runs[0], "--data", tmp_path / "before", "--out", first, out=first)
    (tmp_path / "before").unlink()
    refused(
        evaluate,
        "first/metrics.json: is of the very samples that are being evaluated",
        "--ckpt",
        runs[1],
        "--thresholds",
        first,
    )


def test_the_numbers_are_written_before_the_page(evaluate, runs, tmp_path, monkeypatch):
    monkeypatch.setattr("eval.evaluation.render_report", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate("--ckpt", runs[0], "--split", "val/", "--out", tmp_path, out=tmp_path)
    assert json.loads((tmp_path / "metrics.json").read_text())["split"] == "val"
    assert {path.name for path in tmp_path.iterdir()} == {
        "metrics.json",
        "predictions.npz",
        "per_class.csv",
    }


def test_a_system_with_pretrained_weights_is_no_comp1(evaluate, data, tmp_path):
    run = make_run(tmp_path / "run", data, pretrained=True)
    args = ["--export", "voc", "--voc-competition", "comp1"]
    refused(evaluate, "run/best started from pretrained weights: give comp2", "--ckpt", run, *args)
    other = make_run(tmp_path / "other", data, weights="imagenet.safetensors")
    refused(
        evaluate, "other/best started from imagenet.safetensors: give comp2", "--ckpt", other, *args
    )


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"ckpt": "runs/a/best"}, "eval-val"),
        ({"ckpt": "runs/a/best", "data": "data/./voc"}, "eval-val"),
        ({"ckpt": "runs/a/best", "data": "data/other", "split": "test"}, "eval-test-of-other-#"),
        ({"ckpt": "runs/a/last"}, "eval-val-last"),
        ({"ckpt": "runs/a/best,runs/b/best,runs/c/last"}, "eval-val-with-b-#-with-c-#-last"),
    ],
)
def test_the_folder_is_named_after_what_is_predicted_otherwise(options, name):
    named = results_name(EvalConfig(**options), "data/voc", options.get("split", "val"))
    assert re.sub(r"-[0-9a-f]{6}\b", "-#", named) == name


def test_no_two_evaluations_share_a_folder():
    cases = [
        {"ckpt": f"x/run/best,{other}/run/best", "data": data}
        for other in "yz"
        for data in ("", "a/voc", "b/voc")
    ]
    assert len({results_name(EvalConfig(**case), "data/voc", "val") for case in cases}) == len(
        cases
    )
    relative, absolute = (
        {"data": data} for data in ("other/voc", str(Path("other/voc").resolve()))
    )
    assert (
        len({results_name(EvalConfig(**case), "data/voc", "val") for case in (relative, absolute)})
        == 1
    )


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"ckpt": "runs/a/best,runs/a/best"}, "names a checkpoint twice"),
        ({"local_batch_size": 0}, "local_batch_size is 0"),
        (
            {"voc_competition": "comp1", "export": "csv"},
            "comp1, but nothing is exported for it: give --export voc",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, says):
    with pytest.raises(DataError, match=says):
        EvalConfig(**options)
