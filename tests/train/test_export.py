"""A model that has left the house scores as it did inside, in every format and for every kind of
network.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import timm
import torch

from shards.errors import DataError
from train import export
from train.config import TrainConfig
from train.network.build import build_network
from train.network.export_formats import FORMATS
from train.network.model import rebuild
from train.run import checkpoint
from train.run.checkpoint import Meta
from train.run.progress import Best, Progress

NETWORKS = {
    "rgb": ({"model": "test_resnet"}, 3, "multilabel"),
    "averaged": ({"model": "test_efficientnet", "ema_decay": 0.9}, 3, "multilabel"),
    "transformer": ({"model": "test_vit"}, 3, "multiclass"),
    "four": ({"model": "test_convnext"}, 4, "multilabel"),
    "joined": ({"model": "test_resnet", "fusion": "late"}, 4, "multilabel"),
    "cnn": ({"model": "cnn", "activation": "gelu"}, 3, "multiclass"),
}
CLASSES = ("cat", 'dog "b"', "träger")
SIZE = 48
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """A checkpoint of each kind of network, with weights drawn at random."""
    root = tmp_path_factory.mktemp("checkpoints")
    for number, (name, (options, channels, task)) in enumerate(NETWORKS.items()):
        torch.manual_seed(number)
        config = TrainConfig(size=SIZE, **options)
        own = {key: options[key] for key in ("fusion", "activation") if key in options}
        networks = [
            build_network(config.model, len(CLASSES), SIZE, channels=channels, **own)
            for _ in range(2)
        ]
        states = [network.state_dict() for network in networks]
        mean, std = (0.4, 0.5, 0.45, 0.3)[:channels], (0.2, 0.25, 0.2, 0.3)[:channels]
        progress = Progress(epoch=3, best=Best("val_mAP", 0.5, 3))
        meta = Meta(CLASSES, task, mean, std, progress, {"epoch": 3, "step": 0}, {})
        average = states[1] if config.ema_decay else None
        checkpoint.save(root / name / "best", config, meta, states[0], average, {})
    return root


def run_export(monkeypatch, *args: str) -> None:
    monkeypatch.setattr(sys, "argv", ["train.export", *args])
    export.main()


def images(num: int, channels: int, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(
        0, 256, (num, channels, SIZE, SIZE), dtype=torch.uint8, generator=generator
    )


@torch.inference_mode()
def own_scores(path, pixels) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and probabilities of the checkpoint, as the evaluator computes them."""
    opened = checkpoint.read(path)
    logits = rebuild(opened).eval()(pixels)
    return logits, logits.softmax(1) if opened.meta.task == "multiclass" else logits.sigmoid()


@pytest.mark.parametrize("name", NETWORKS)
def test_torchscript_scores_as_the_checkpoint_does(name, checkpoints, monkeypatch, tmp_path):
    path = tmp_path / "model.pt"
    run_export(
        monkeypatch, str(checkpoints / name / "best"), "--format", "torchscript", "--out", str(path)
    )
    extra = {"tarmac.json": ""}
    loaded = torch.jit.load(str(path), _extra_files=extra)
    described = json.loads(extra["tarmac.json"])
    assert described["class_names"] == list(CLASSES)
    assert described["task"] == NETWORKS[name][2]
    for num in (1, 4):
        pixels = images(num, NETWORKS[name][1])
        torch.testing.assert_close(
            loaded(pixels), own_scores(checkpoints / name / "best", pixels)[1]
        )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["averaged", "transformer", "joined", "cnn"])
def test_onnx_scores_as_the_checkpoint_does(name, checkpoints, monkeypatch, tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    path = tmp_path / "model.onnx"
    run_export(
        monkeypatch, str(checkpoints / name / "best"), "--format", "onnx", "--out", str(path)
    )
    assert "differs from the checkpoint by at most" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,), (out,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == (
        "images",
        "tensor(uint8)",
        [NETWORKS[name][1], SIZE, SIZE],
    )
    assert (out.name, out.shape[1:]) == ("probabilities", [len(CLASSES)])
    told = session.get_modelmeta().custom_metadata_map
    assert json.loads(told["class_names"]) == list(CLASSES)
    assert told["task"] == NETWORKS[name][2]
    assert f"crop the centre of {SIZE} x {SIZE}" in told["preprocessing"]
    for num in (1, 4):
        pixels = images(num, NETWORKS[name][1])
        (scores,) = session.run(None, {"images": pixels.numpy()})
        np.testing.assert_allclose(
            scores, own_scores(checkpoints / name / "best", pixels)[1], atol=1e-4
        )


@pytest.mark.parametrize("name", ["rgb", "averaged", "transformer", "four"])
def test_timm_loads_equal_logits(name, checkpoints, monkeypatch, tmp_path, capsys):
    path = tmp_path / "model.safetensors"
    run_export(monkeypatch, str(checkpoints / name / "best"), "--out", str(path))
    line = capsys.readouterr().out.splitlines()[-1]
    assert line.startswith("timm.create_model(")
    network = eval(line, {"timm": timm}).eval()  # what the user is told
    opened = checkpoint.read(checkpoints / name / "best")
    with safetensors.safe_open(path, "pt") as file:
        told = json.loads(file.metadata()["tarmac"])
    assert told["class_names"] == list(CLASSES)
    mean, std = (torch.tensor(told[key]).view(1, -1, 1, 1) for key in ("mean", "std"))
    pixels = images(4, NETWORKS[name][1])
    with torch.inference_mode():
        logits = network((pixels.float() - 255 * mean) / (255 * std))
    assert torch.equal(logits, own_scores(opened.path, pixels)[0])


def test_the_last_weights_instead_of_their_average(checkpoints, monkeypatch, tmp_path):
    last, average = tmp_path / "last.safetensors", tmp_path / "average.safetensors"
    ckpt = checkpoints / "averaged" / "best"
    run_export(monkeypatch, str(ckpt), "--no-ema", "--out", str(last))
    run_export(monkeypatch, str(ckpt), "--out", str(average))
    opened = checkpoint.read(ckpt)
    for path, averaged in ((last, False), (average, True)):
        saved, own = safetensors.torch.load_file(path), opened.weights(averaged=averaged)
        assert saved.keys() == own.keys()
        assert all(torch.equal(saved[key], own[key]) for key in own)


@pytest.mark.parametrize(("name", "says"), [("rgb", 1), ("averaged", 0)])
def test_no_ema_of_a_run_without_an_average_says_so(
    name, says, checkpoints, monkeypatch, tmp_path, capsys
):
    ckpt = checkpoints / name / "best"
    for options, lines in ((["--no-ema"], says), ([], 0)):
        run_export(monkeypatch, str(ckpt), "--out", str(tmp_path / "a.safetensors"), *options)
        assert capsys.readouterr().out.count("best: has no averaged weights") == lines


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "form", "suffix"), [("rgb", "timm", "safetensors"), ("cnn", "onnx", "onnx")]
)
def test_the_same_file_every_time_beside_the_checkpoint(
    name, form, suffix, checkpoints, monkeypatch
):
    if form == "onnx":
        pytest.importorskip("onnxscript")
    written = []
    for _ in range(2):
        run_export(monkeypatch, str(checkpoints / name / "best"), "--format", form)
        written.append((checkpoints / name / f"best.{suffix}").read_bytes())
    assert written[0] == written[1]
    assert str(ROOT).encode() not in written[0]


@pytest.mark.parametrize(
    ("name", "args", "says"),
    [
        (
            "joined",
            ["--format", "timm"],
            "timm has no network like this Joined of test_resnet: give onnx or torchscript",
        ),
        ("cnn", ["--format", "timm"], "timm has no network like this CNN of cnn"),
        (
            "rgb",
            ["--format", "timm", "--out", "x.onnx"],
            "the name of this format's files ends in .safetensors",
        ),
        ("nowhere", [], "no checkpoint here"),
    ],
)
def test_what_cannot_be_exported_is_one_line(name, args, says, checkpoints, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=says):
        run_export(monkeypatch, str(checkpoints / name / "best"), *args)
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_named(checkpoints, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(
        DataError,
        match=r"format onnx needs the package onnxscript: pip install 'tarmac-vision\[export\]'",
    ):
        run_export(
            monkeypatch,
            str(checkpoints / "rgb/best"),
            "--format",
            "onnx",
            "--out",
            str(tmp_path / "model.onnx"),
        )


def test_a_file_that_scores_otherwise_is_not_kept(checkpoints, monkeypatch, tmp_path):
    """What is written is tried: here the writer spoils one bias."""
    honest = FORMATS["torchscript"]

    def spoil(model, description, path):
        with torch.no_grad():
            model.classifier.network.fc3.bias[0] += 0.01
            honest.write(model, description, path)
            model.classifier.network.fc3.bias[0] -= 0.01

    monkeypatch.setitem(FORMATS, "torchscript", replace(honest, write=spoil))
    with pytest.raises(DataError, match=r"differs from the checkpoint by .*: it is not kept"):
        run_export(
            monkeypatch,
            str(checkpoints / "cnn/best"),
            "--format",
            "torchscript",
            "--out",
            str(tmp_path / "model.pt"),
        )
    assert not list(tmp_path.iterdir())
