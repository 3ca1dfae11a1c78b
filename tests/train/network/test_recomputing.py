"""Gradient checkpointing, batch norms over ranks, TF32: where they work, and one line where not."""

import pytest
import torch
from torch import nn

from eval.predict import PredictConfig
from eval.predict_pictures import predict_pictures
from shards.errors import DataError
from tests.train.here import evaluate_here, train_here
from train.network.recomputing import recompute_activations
from train.network.sync_batch_norm import sync_batch_norms
from train.optimise.recompute import statistics_kept
from train.run import checkpoint
from train.run.device_settings import compute_as_run, set_up_device
from train.run.precision import Chosen

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["test_resnet", "test_vit"])
def test_recomputing_changes_no_bit(model, digits, tmp_path):
    """Nor the running statistics of batch norms, which the second pass would move again."""
    options = {"model": model, "drop_rate": 0.2, "ema_decay": 0.9}
    for name, is_set in (("plain", False), ("recomputed", True)):
        train_here(digits, tmp_path / name, grad_checkpointing=is_set, **options)
    plain, recomputed = (
        checkpoint.read(tmp_path / name / "last") for name in ("plain", "recomputed")
    )
    for averaged in (False, True):
        expected = plain.weights(averaged)
        for name, value in recomputed.weights(averaged).items():
            assert torch.equal(value, expected[name]), name


def test_statistics_are_kept_inside_and_move_again_outside():
    norm = nn.BatchNorm1d(2)
    norm(torch.randn(4, 2))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    with statistics_kept(nn.Sequential(norm)):
        norm(torch.randn(4, 2))
    assert all(torch.equal(before[name], value) for name, value in norm.state_dict().items())
    norm(torch.randn(4, 2))
    assert norm.num_batches_tracked == before["num_batches_tracked"] + 1
    assert not torch.equal(norm.running_mean, before["running_mean"])


@pytest.mark.parametrize("model", ["cnn", "hrnet_w18_small"])
def test_a_network_that_cannot_recompute_is_refused(model, digits, tmp_path):
    with pytest.raises(DataError, match=rf"^grad_checkpointing is set, but model {model}") as said:
        train_here(digits, tmp_path / "run", model=model, grad_checkpointing=True)
    assert "leave out --grad-checkpointing" in str(said.value)
    assert not (tmp_path / "run").exists()


def test_both_networks_of_a_late_fusion_recompute():
    asked = []

    class Branch(nn.Module):
        def forward(self, images):
            return images.mean((2, 3))

        def set_grad_checkpointing(self, enable):
            asked.append(enable)

    from train.network.two_branch import Joined

    recompute_activations(Joined(Branch(), Branch(), 1, 5, 8, 0.0), "both")
    assert asked == [True, True]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"sync_bn": True}, "sync_bn is set, but this run is on the CPU"),
        ({"tf32": True}, "tf32 is set, but the CPU has no TF32: leave out --tf32"),
    ],
)
def test_what_a_gpu_alone_can_is_refused_on_a_cpu(options, says, digits, tmp_path):
    with pytest.raises(DataError, match=f"^{says}") as said:
        train_here(digits, tmp_path / "run", model="test_resnet", **options)
    assert "\n" not in str(said.value)
    assert not (tmp_path / "run").exists()


def test_batch_norms_are_exchanged_under_their_names():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    names = list(network.state_dict())
    exchanged = sync_batch_norms(network, "small", CUDA)
    assert isinstance(exchanged[1], nn.SyncBatchNorm)
    assert list(exchanged.state_dict()) == names
    with pytest.raises(DataError, match="model flat has no batch norm: leave out --sync-bn"):
        sync_batch_norms(nn.Sequential(nn.Linear(2, 2)), "flat", CUDA)


@pytest.fixture
def flags():
    """Torch's own settings, put back afterwards."""
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    before = (cudnn.allow_tf32, products.allow_tf32, cudnn.benchmark)
    yield lambda: (cudnn.allow_tf32, products.allow_tf32, cudnn.benchmark)
    cudnn.allow_tf32, products.allow_tf32 = before[:2]
    cudnn.benchmark = before[2]


def test_a_gpu_computes_fp32_as_asked(flags, monkeypatch):
    """Both kinds of products: torch by itself takes TF32 for convolutions alone."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    set_up_device(CUDA, tf32=True)
    assert flags() == (True, True, True)
    set_up_device(CUDA, tf32=False)
    assert flags() == (False, False, True)


def test_a_gpu_without_tf32_is_told_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(DataError, match="tf32 is set, but this GPU has no TF32: leave out --tf32"):
        set_up_device(CUDA, True)


@pytest.mark.parametrize(
    ("precision", "tf32", "capability", "expected"),
    [
        ("no", False, (9, 0), False),
        ("no", True, (9, 0), True),
        ("no", True, (7, 5), False),
        ("bf16", True, (9, 0), False),
    ],
)
def test_evaluation_computes_fp32_as_the_run_did_where_it_can(
    precision, tf32, capability, expected, flags, monkeypatch
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    chosen = compute_as_run(Chosen(precision, ""), CUDA, tf32)
    assert flags()[:2] == (expected, expected)
    assert chosen == Chosen(precision, "TF32, as the run" if expected else "")


def test_evaluation_and_prediction_compute_fp32_exactly(flags, digits, tmp_path, monkeypatch):
    """Torch by itself takes TF32 for convolutions: on a GPU scores were others than validation's."""
    train_here(digits, tmp_path / "run")
    torch.backends.cudnn.allow_tf32 = True
    evaluate_here(tmp_path / "run", tmp_path / "results")
    assert flags()[:2] == (False, False)
    torch.backends.cudnn.allow_tf32 = True
    picture = next((digits.parent / "source" / "JPEGImages").glob("*.jpg"))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    ckpt = str(tmp_path / "run" / "best")
    predict_pictures(PredictConfig(pictures=(str(picture),), ckpt=ckpt))
    assert flags()[:2] == (False, False)
