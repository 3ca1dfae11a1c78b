"""Configuration, schedule, loss, weights and checkpoints, each against its definition."""

import dataclasses
import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import timm
import torch
import yaml
from torch import nn

from shards.errors import DataError
from train.config import TrainConfig
from train.network.build import build_network
from train.network.model import Classifier, head_parameters, rebuild
from train.network.weights import load_weights
from train.optimise.optim import build_optimizer
from train.optimise.schedule import lr_factor, set_lr
from train.run import checkpoint
from train.run.checkpoint import Meta
from train.run.folder import RunFolder, read_metrics
from train.run.progress import Best, Progress, better
from train.run.state import generator_states, joining_seed, restore_generators

ROOT = Path(__file__).parents[2]


def test_config_survives_yaml(tmp_path):
    config = TrainConfig(lr=0.3, crop_scale=(0.2, 0.9), precision="bf16")
    (tmp_path / "config.yaml").write_text(config.to_yaml())
    assert TrainConfig.from_yaml(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    "path",
    [
        "recipes/digits.yaml",
        "recipes/voc-resnet18.yaml",
        "recipes/voc-mobilenet.yaml",
        "recipes/voc-fast.yaml",
    ],
)
def test_recipes_hold_known_options_only(path):
    values = yaml.safe_load((ROOT / path).read_text())
    assert set(values) <= {field.name for field in dataclasses.fields(TrainConfig)}


def test_differences_name_what_matters_only():
    one = TrainConfig()
    other = dataclasses.replace(one, lr=0.5, num_threads=7, data="elsewhere", resume=True)
    assert one.differences(other) == {"lr": (0.01, 0.5)}


@pytest.mark.parametrize(
    ("name", "value"),
    [("epochs", 0), ("lr", 0), ("momentum", 1), ("crop_scale", (0.5, 0.1)), ("lr", float("nan"))],
)
def test_config_refuses(name, value):
    with pytest.raises(DataError, match=name.replace("crop_", "")):
        TrainConfig(**{name: value})


def test_flags_win_wherever_they_stand():
    from train.__main__ import config_first

    assert config_first(["--lr", "1", "--config", "my/a.yaml", "--resume"]) == [
        "--config",
        "my/a.yaml",
        "--lr",
        "1",
        "--resume",
    ]
    assert config_first(["--lr", "1", "--config=my/a.yaml"]) == ["--config=my/a.yaml", "--lr", "1"]
    assert config_first(["--lr", "1"])[0::2] == ["--config", "--lr"]


def test_an_older_config_takes_defaults_an_unknown_key_is_refused(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("lr: 0.5\n")
    assert TrainConfig.from_yaml(path) == TrainConfig(lr=0.5)
    for text, says in (
        ("colour: red\n", "colour"),
        ("[", "not the configuration"),
        ("3", "not the configuration"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=says):
            TrainConfig.from_yaml(path)
    path.write_bytes(b"out: runs/caf\xe9\n")
    with pytest.raises(DataError, match=r"not the configuration of a run .* put back the file"):
        TrainConfig.from_yaml(path)


@pytest.mark.parametrize(
    ("name", "size"), [("vit_tiny_patch16_224", 64), ("deit_tiny_distilled_patch16_224", 64)]
)
def test_transformers_take_the_wanted_size_and_two_heads_are_one(name, size):
    network = build_network(name, 5, size)
    assert head_parameters(network)
    assert network(torch.zeros(1, 3, size, size)).shape[-1] == 5


def test_a_size_that_a_network_cannot_take_is_met_at_the_door():
    with pytest.raises(DataError, match=r"model vit_tiny_patch16_224 .* 8 pixels"):
        build_network("vit_tiny_patch16_224", 5, 8)


def test_a_folder_in_use_or_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("x")
    with pytest.raises(DataError, match="holds files that are no run"):
        RunFolder(tmp_path / "mine").begin("")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/.lock").touch()  # a start that was killed at once
    first = RunFolder(tmp_path / "run")
    assert first.begin("") is None
    with pytest.raises(DataError, match="another process trains into it"):
        RunFolder(tmp_path / "run").begin("")
    assert (tmp_path / "run/config.yaml").exists()


@pytest.mark.parametrize("content", [b"", b"abc", b"\x80\x02."])
def test_junk_for_weights_is_one_line(content, tmp_path):
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(DataError, match="not a state dict"):
        load_weights(build_network("test_resnet", 5, 64), tmp_path / "w.pth")


def test_the_launchers_number_of_processes_is_found():
    from train.run.launch import asked_for

    assert asked_for(["accelerate", "launch", "--cpu", "--num_processes", "2", "-m", "train"]) == 2
    assert asked_for(["accelerate", "launch", "--num-processes=4", "x"]) == 4
    assert asked_for(["accelerate", "launch", "--num_processes", "1"]) == 1
    assert asked_for(["python"]) is None


def test_cosine_schedule_follows_its_formula():
    config = TrainConfig(epochs=4, schedule="cosine", warmup_epochs=1)
    factors = [lr_factor(config, step, 10) for step in range(40)]
    np.testing.assert_allclose(factors[:10], np.arange(1, 11) / 10)
    np.testing.assert_allclose(factors[10:], 0.5 * (1 + np.cos(np.pi * np.arange(30) / 30)))


def test_step_and_constant_schedules():
    config = TrainConfig(epochs=6, schedule="step", step_epochs=2, step_factor=0.1)
    np.testing.assert_allclose(
        [lr_factor(config, 5 * epoch, 5) for epoch in range(6)], [1, 1, 0.1, 0.1, 0.01, 0.01]
    )
    assert lr_factor(TrainConfig(), 12345, 10) == 1


def test_the_head_has_its_own_rate_and_norms_no_decay():
    network = build_network("test_resnet", 5, 64)
    config = TrainConfig(lr=0.1, head_lr_factor=10, weight_decay=0.01, momentum=0.9)
    optimizer = build_optimizer(network, head_parameters(network), config)
    set_lr(optimizer, 1.0)
    set_lr(optimizer, 0.5)
    head = {id(parameter) for parameter in network.get_classifier().parameters()}
    num_parameters = 0
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            num_parameters += 1
            assert group["lr"] == pytest.approx(0.5 if id(parameter) in head else 0.05)
            assert group["weight_decay"] == (0.01 if parameter.ndim > 1 else 0)
        assert group["momentum"] == 0.9
        assert not group["nesterov"]
    assert num_parameters == len(list(network.parameters()))


def test_normalisation_is_torchvisions():
    from torchvision.transforms import Normalize

    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    ours = Classifier(nn.Identity(), mean, std)(images)
    torch.testing.assert_close(ours, Normalize(mean, std)(images.float() / 255))


def test_weights_report_says_what_became_of_each_tensor(tmp_path):
    source = timm.create_model("test_resnet", num_classes=7)
    state = {**source.state_dict(), "extra": torch.zeros(1)}
    del state["conv1.0.weight" if "conv1.0.weight" in state else next(iter(state))]
    safetensors.torch.save_file(state, tmp_path / "w.safetensors")
    network = build_network("test_resnet", 5, 64)
    report = load_weights(network, tmp_path / "w.safetensors")
    assert set(report.unfit) == {"fc.weight", "fc.bias"}
    assert report.unused == ["extra"]
    assert len(report.new) == 1
    assert len(report.loaded) + 3 == len(network.state_dict())
    name = report.loaded[0]
    assert torch.equal(network.state_dict()[name], source.state_dict()[name])
    assert "2 of another shape (fc.bias, fc.weight)" in str(report)


def test_weights_of_another_architecture_are_refused(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(DataError, match="fits 0 of the network"):
        load_weights(build_network("test_resnet", 5, 64), tmp_path / "w.pth")


@pytest.mark.parametrize("state", [{0: torch.zeros(1)}, {"a": 1}, torch.zeros(1)])
def test_weights_without_names_are_refused(state, tmp_path):
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(
        DataError, match=r"no state dict of tensors; save model.state_dict\(\) alone"
    ):
        load_weights(build_network("test_resnet", 5, 64), tmp_path / "w.pth")


class _Malice:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_hostile_weights_run_nothing(name, tmp_path):
    target = tmp_path / "made by a stranger"
    (tmp_path / name).write_bytes(pickle.dumps({"a": _Malice(target)}))
    with pytest.raises(DataError, match=name):
        load_weights(build_network("test_resnet", 5, 64), tmp_path / name)
    assert not target.exists()


# -- checkpoints
# --------------------------------------------------------------------------------------------------


def meta(step: int) -> Meta:
    progress = Progress(
        epoch=1, step=step, loss_sum=0.1, loss_count=3, best=Best("val_mAP", 0.5, 1)
    )
    return Meta(
        ("a", "b"),
        "multilabel",
        (0.1,) * 3,
        (0.2,) * 3,
        progress,
        {"epoch": 1, "step": step},
        {"val_mAP": 0.5},
    )


def write(path, step: int) -> None:
    checkpoint.save(
        path,
        TrainConfig(),
        meta(step),
        {"w": torch.full((2,), step)},
        None,
        {"optimizer": {"x": step}},
    )


def test_checkpoint_round_trip(tmp_path):
    write(tmp_path / "last", 5)
    opened = checkpoint.read(tmp_path / "last")
    assert opened.meta == meta(5)
    assert opened.config == TrainConfig()
    assert opened.weights()["w"].tolist() == [5, 5]
    assert opened.trainer() == {"optimizer": {"x": 5}}
    assert not opened.has_average


def test_a_checkpoint_of_the_first_version_is_read(tmp_path):
    write(tmp_path / "last", 5)
    path = tmp_path / "last/checkpoint.json"
    described = json.loads(path.read_text())
    del described["progress"]["best"]
    described["progress"] |= {"best_mAP": 0.5, "best_epoch": 1}
    path.write_text(json.dumps({**described, "version": 1}))
    assert checkpoint.read(tmp_path / "last").meta == meta(5)


def test_the_best_epoch_is_the_first_of_the_highest_value():
    best = None
    for epoch, value in enumerate([None, 0.2, None, 0.2, 0.3, 0.1], start=1):
        best = better(best, Best("val_mAP", value, epoch))
    assert best == Best("val_mAP", 0.3, 5)
    assert better(None, Best("val_mAP", None, 1)) == Best("val_mAP", None, 1)
    assert str(best) == "epoch 5, mAP 0.3000"


def test_a_copy_does_not_change_with_its_source(tmp_path):
    write(tmp_path / "last", 5)
    checkpoint.copy(tmp_path / "last", tmp_path / "best")
    write(tmp_path / "last", 6)
    assert checkpoint.read(tmp_path / "best").weights()["w"].tolist() == [5, 5]
    assert checkpoint.read(tmp_path / "last").weights()["w"].tolist() == [6, 6]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "last"]


@pytest.mark.parametrize("operation", ["rename", "fsync", "replace"])
@pytest.mark.parametrize("moment", range(6))
def test_a_failure_at_any_moment_leaves_a_whole_checkpoint(
    operation, moment, tmp_path, monkeypatch
):
    write(tmp_path / "last", 5)
    real, calls = getattr(os, operation), []

    def fail(*args, **kwargs):
        calls.append(1)
        if len(calls) == moment + 1:
            raise OSError(28, "No space left on device", str(args[0]))
        return real(*args, **kwargs)

    monkeypatch.setattr(os, operation, fail)
    try:
        write(tmp_path / "last", 6)
        expected = {6}
    except DataError:
        expected = {5, 6}
    monkeypatch.undo()
    assert checkpoint.exists(tmp_path / "last")
    assert checkpoint.read(tmp_path / "last").meta.progress.step in expected
    write(tmp_path / "last", 7)
    assert checkpoint.read(tmp_path / "last").meta.progress.step == 7
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last"]


@pytest.mark.parametrize("given", ["nothing", ".", "/"])
def test_a_name_beside_which_there_is_no_checkpoint_is_one_line(tmp_path, monkeypatch, given):
    """What is beside a bare name is looked at too, and that folder, `.`, has no name of its own."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"^{given}: no checkpoint here; give a folder such as"):
        checkpoint.read(Path(given))
    assert not checkpoint.exists(Path(given))


def test_what_is_no_checkpoint_is_refused(tmp_path):
    with pytest.raises(DataError, match="no checkpoint here"):
        checkpoint.read(tmp_path / "nothing")
    write(tmp_path / "last", 5)
    path = tmp_path / "last/checkpoint.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": 99}))
    with pytest.raises(DataError, match="another version"):
        checkpoint.read(tmp_path / "last")
    path.write_text("{")
    with pytest.raises(DataError, match="not a checkpoint's description"):
        checkpoint.read(tmp_path / "last")


def test_generators_continue_where_they_stood():
    import random

    states = generator_states(torch.device("cpu"))
    expected = random.random(), np.random.rand(), torch.rand(3).tolist()  # noqa: NPY002
    random.random(), np.random.rand(5), torch.rand(5)  # noqa: NPY002
    restore_generators(states, torch.device("cpu"))
    assert (random.random(), np.random.rand(), torch.rand(3).tolist()) == expected  # noqa: NPY002


def test_a_rank_that_joins_has_generators_of_its_own():
    """A pure function of where the run stands: neither those of its first epoch nor those of
    another rank.
    """
    seeds = [
        joining_seed(7, rank, epoch, step)
        for rank in range(4)
        for epoch in range(3)
        for step in range(3)
    ]
    assert len({*seeds, *range(7, 11)}) == len(seeds) + 4
    assert joining_seed(7, 2, 1, 3) == joining_seed(7, 2, 1, 3) < 2**32  # what NumPy takes


def test_a_run_that_never_came_to_a_checkpoint_begins_again_in_its_place(tmp_path):
    for _ in range(2):
        folder = RunFolder(tmp_path / "run")
        assert folder.begin("lr: 1", resume=True) is None
        folder.append_metrics({"epoch": 1})
        folder._lock.close()
    assert read_metrics(tmp_path / "run") == [{"epoch": 1}]
    assert RunFolder(tmp_path / "run").begin("lr: 2", resume=True) == tmp_path / "run.1"


@pytest.mark.parametrize(
    ("model", "size", "says"),
    [
        ("test_resnet", 32, "conv1.0.weight is not in the file"),
        ("cnn", 32, "conv1.weight is not in the file"),
        ("test_vit", 160, r"pos_embed is \[1, 101, 64\] in the network, \[1, 5, 64\] in the file"),
    ],
)
def test_weights_that_config_yaml_does_not_describe_are_one_line(model, size, says, tmp_path):
    """config.yaml was edited, or another release of timm names the network's layers otherwise."""
    network = build_network("test_vit", 2, 32)
    meta = Meta(("a", "b"), "multilabel", (0.5,) * 3, (0.5,) * 3, Progress(1), {}, {})
    written = TrainConfig(model=model, size=size)
    checkpoint.save(tmp_path / "best", written, meta, network.state_dict(), None, {})
    opened = checkpoint.read(tmp_path / "best")
    with pytest.raises(DataError, match=f"best: .*config.yaml.*{says}.*put back") as said:
        rebuild(opened)
    assert "\n" not in str(said.value)
    assert len(str(said.value)) < 500


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("lr: -1", "lr is -1.0: give a number above 0"),
        ("pad: 99\naugment: pad\nsize: 32", "pad is 99"),
        ("crop_scale: [0.5]", r"crop_scale is \[0.5\]: give 2 numbers"),
        ("learning_rate: 0.1", "options that this release does not know: learning_rate;"),
    ],
)
def test_an_edited_configuration_is_named_with_its_file(line, says, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=f"^{path}: .*{says}") as said:
        TrainConfig.from_yaml(path)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("kept", ["best", "last"])
def test_a_run_whose_last_checkpoint_is_gone_is_moved_aside_not_begun_in_its_place(kept, tmp_path):
    """Someone keeps `best` alone, or `last` came without its checkpoint.json from a copy."""
    folder = RunFolder(tmp_path / "run")
    assert folder.begin("lr: 1") is None
    folder.append_metrics({"epoch": 1})
    (tmp_path / "run" / kept).mkdir()
    (tmp_path / "run" / kept / "model.safetensors").write_bytes(b"weights of an hour")
    folder.unlock()
    aside = RunFolder(tmp_path / "run").begin("lr: 1", resume=True)
    assert aside == tmp_path / "run.1"
    assert read_metrics(aside) == [{"epoch": 1}]
    assert (aside / kept / "model.safetensors").read_bytes() == b"weights of an hour"
    assert not (tmp_path / "run" / kept).exists()


def test_metrics_file_forgets_and_survives_a_cut_line(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.begin("")
    for epoch in (1, 2, 3):
        folder.append_metrics({"epoch": epoch})
    folder.forget_metrics_after(2)
    with open(tmp_path / "run/metrics.jsonl", "a") as file:
        file.write('{"epoch": 3, "tra')
    assert read_metrics(tmp_path / "run") == [{"epoch": 1}, {"epoch": 2}]
