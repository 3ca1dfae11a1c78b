"""Networks that crashed torch, or ended in a traceback, as people reported them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from timm.models import register_model
from torch import nn

from shards.errors import DataError
from tests.train.conftest import shades  # noqa: F401 (a fixture)
from tests.train.here import command_here, evaluate_here, train_here
from train.config import TrainConfig
from train.network.build import build_network
from train.network.ensemble_member import member
from train.network.memory_format import choose_format
from train.network.model import Classifier
from train.run import checkpoint

CPU = torch.device("cpu")
LESSER_CPU = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"}  # as one without AVX-512
STEPS = """
import torch
from train.network.memory_format import choose_format
from train.network.model import Classifier
from train.network.build import build_network
network = build_network("{model}", 5, 32)
cpu = torch.device("cpu")
model = Classifier(network, (0.5,) * 3, (0.2,) * 3).place(cpu, choose_format("auto", cpu, "no"))
images = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
for _ in range(3):
    model(images).sum().backward()
"""


@pytest.mark.slow
@pytest.mark.parametrize("model", ["repvgg_a0", "mobileone_s0"])
def test_a_backward_pass_in_fp32_survives_on_a_cpu_without_avx512(model):
    environment = {**os.environ, **LESSER_CPU, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    root = Path(__file__).parents[2]
    script = STEPS.replace("{model}", model)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=root, env=environment, capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize(
    ("device", "precision", "asked", "expected"),
    [
        ("cpu", "no", "auto", torch.contiguous_format),
        ("cpu", "bf16", "auto", torch.channels_last),
        ("cuda", "no", "auto", torch.channels_last),
        ("cuda", "fp16", "auto", torch.channels_last),
        ("cpu", "no", "channels_last", torch.channels_last),
        ("cuda", "bf16", "contiguous", torch.contiguous_format),
    ],
)
def test_the_memory_format_suits_device_and_precision(device, precision, asked, expected):
    assert choose_format(asked, torch.device(device), precision) == expected


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [3, 4])
def test_images_reach_the_network_in_its_memory_format(memory_format, channels):
    seen = []

    class Seeing(nn.Conv2d):
        def forward(self, images):
            seen.append(images)
            return super().forward(images)

    layer = Seeing(3, 8, 3)
    model = Classifier(layer, (0.5,) * 3, (0.25,) * 3).place(CPU, memory_format)
    given = torch.randint(0, 256, (2, channels, 8, 8), dtype=torch.uint8)
    for images in (given, given.contiguous(memory_format=torch.channels_last)):
        model(images)
        assert seen[-1].is_contiguous(memory_format=memory_format)
        assert layer.weight.is_contiguous(memory_format=memory_format)
        torch.testing.assert_close(seen[-1], (given[:, :3].float() / 255 - 0.5) / 0.25)


def test_a_network_with_a_convolution_over_three_dimensions_trains_in_channels_last():
    """lambda_resnet26t: torch refuses tensors of five dimensions, on each GPU and in bf16."""
    network = build_network("lambda_resnet26t", 2, 64)
    model = Classifier(network, (0.5,) * 3, (0.2,) * 3).place(CPU, torch.channels_last)
    of_four = next(weight for weight in model.parameters() if weight.shape[2:] == (3, 3))
    assert of_four.is_contiguous(memory_format=torch.channels_last)
    assert any(weight.ndim == 5 for weight in model.parameters())
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    model(images).sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())


@pytest.mark.parametrize("memory_format", ["auto", "channels_last"])
def test_evaluation_computes_as_validation_did(memory_format, shades, tmp_path):  # noqa: F811
    train_here(shades, tmp_path / "run", model="test_resnet", memory_format=memory_format)
    opened = checkpoint.read(tmp_path / "run" / "best")
    expected = torch.channels_last if memory_format == "channels_last" else torch.contiguous_format
    assert member(opened, 0, CPU, "no").forward.memory_format == expected
    metrics, _ = evaluate_here(tmp_path / "run", tmp_path / "results")
    assert metrics["accuracy"] == opened.meta.progress.best.value


def test_a_size_that_a_network_does_not_take_is_one_line(shades, tmp_path, capsys):  # noqa: F811
    args = ("train", "--data", str(shades), "--out", str(tmp_path / "run"), "--no-tensorboard")
    status, _, told = command_here(capsys, *args, "--model", "mvitv2_tiny", "--size", "100")
    line = told.splitlines()[-1]
    assert status == 2
    assert line.startswith(
        "error: model mvitv2_tiny does not take images of 100 pixels and 3 channels (IndexError"
    )
    assert line.endswith("give --size 96, or another --model")
    assert not (tmp_path / "run").exists()
    build_network("mvitv2_tiny", 5, 96)


class Odd(nn.Module):
    """A network that fails in a way of its own where images are not of 64 pixels."""

    def __init__(
        self,
        error=None,
        at_once=False,
        num_classes=5,
        gives=None,
        img_size=64,
        in_chans=3,
        drop_rate=0.0,
    ):
        super().__init__()
        if at_once and img_size != 64:
            raise error
        self.error, self.gives = error, gives
        self.head = nn.Linear(in_chans, num_classes)
        self.pretrained_cfg = {}

    def forward(self, images):
        if self.error and images.shape[-1] != 64:
            raise self.error
        logits = self.head(images.mean((2, 3)))
        return logits if self.gives is None else self.gives(logits)

    def get_classifier(self):
        return self.head


HOW = {}


@register_model
def odd_network(
    pretrained=False, pretrained_cfg=None, pretrained_cfg_overlay=None, cache_dir=None, **options
):
    return Odd(**HOW, **options)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(
    "error",
    [
        IndexError("of\nits own"),
        KeyError("x"),
        ZeroDivisionError(),
        NotImplementedError(),
        AttributeError("a"),
    ],
)
def test_whatever_a_network_raises_is_one_line_with_a_size_that_works(error, at_once, monkeypatch):
    monkeypatch.setitem(HOW, "error", error)
    monkeypatch.setitem(HOW, "at_once", at_once)
    with pytest.raises(DataError) as caught:
        build_network("odd_network", 5, 70)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(
        f"model odd_network does not take images of 70 pixels and 3 channels "
        f"({type(error).__name__}"
    )
    assert line.endswith("give --size 64, or another --model")
    build_network("odd_network", 5, 64)


@pytest.mark.parametrize(
    ("gives", "says"),
    [
        (lambda logits: (logits, logits), "gives tuple, not one score per class"),
        (lambda logits: logits[:, :2], r"gives scores of shape \[2, 2\] for 2 images"),
    ],
)
def test_what_is_no_classifier_is_refused(gives, says, monkeypatch):
    monkeypatch.setitem(HOW, "gives", gives)
    with pytest.raises(DataError, match=says):
        build_network("odd_network", 5, 64)


def test_a_network_without_an_option_for_dropout_is_made_without_dropout(monkeypatch):
    class Plain(Odd):
        def __init__(self, num_classes=5, in_chans=3):
            super().__init__(num_classes=num_classes, in_chans=in_chans)

    monkeypatch.setattr(sys.modules[__name__], "Odd", Plain)
    build_network("odd_network", 5, 64)
    with pytest.raises(DataError, match="drop_rate"):
        build_network("odd_network", 5, 64, drop_rate=0.5)


def test_the_option_is_kept_in_the_configuration(tmp_path):
    (tmp_path / "config.yaml").write_text(TrainConfig(memory_format="channels_last").to_yaml())
    assert TrainConfig.from_yaml(tmp_path / "config.yaml").memory_format == "channels_last"
