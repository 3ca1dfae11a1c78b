"""Training in the near order: the same run on any ranks, and a run keeps its order."""

import numpy as np
import pytest
import yaml

from shards.errors import DataError
from tests.conftest import CLASSES, pack, write_photographs
from tests.train.conftest import SMALL, command, pack_here, ranks, succeed
from tests.train.here import command_here, train_here
from train.config import TrainConfig
from train.loop import train
from train.run.folder import read_metrics

NEAR = {"order": "near", "shuffle_groups": 4, "shuffle_window": 2}


@pytest.fixture(scope="module")
def with_ignored(tmp_path_factory):
    """42 photographs, a tenth of their labels ignored, in shards of 3; the same as val."""
    root = tmp_path_factory.mktemp("ignored")
    records = write_photographs(root / "photos", 42)
    pack(records, root / "data" / "train", shard_samples=3)
    pack_here(root / "data", records, "val", CLASSES)
    return root / "data"


@pytest.mark.slow
def test_ranks_add_up_the_known_labels_of_a_batch(with_ignored, tmp_path):
    """Each counts those of its own part; the losses are those of one rank, mixup included."""
    args = ["train", "--data", str(with_ignored), *SMALL, "--drop-rate", "0", "--epochs", "2"]
    args += ["--global-batch-size", "8", "--mixup", "0.4"]
    for name, value in NEAR.items():
        args += [f"--{name.replace('_', '-')}", str(value)]
    succeed(ranks(2, *args, "--out", str(tmp_path / "two")))
    succeed(command(*args, "--out", str(tmp_path / "one")))
    one, two = read_metrics(tmp_path / "one"), read_metrics(tmp_path / "two")
    for name in ("train_loss", "val_loss"):
        np.testing.assert_allclose([x[name] for x in one], [x[name] for x in two], rtol=1e-5)


def test_config_yaml_keeps_the_order_and_a_resumed_run_too(shades, tmp_path, capsys):
    out = tmp_path / "near"
    train_here(shades, out, **NEAR)
    written = yaml.safe_load((out / "config.yaml").read_text())
    assert {name: written[name] for name in NEAR} == NEAR
    again = ["train", "--config", str(out / "config.yaml"), "--resume"]
    status, told, err = command_here(capsys, *again, "--order", "auto")
    assert (status, "resuming" in told) == (0, True), err
    assert yaml.safe_load((out / "config.yaml").read_text())["order"] == "near"
    status, _, err = command_here(capsys, *again, "--shuffle-groups", "2")
    assert status == 2
    assert "was trained with shuffle_groups 4, now 2" in err.splitlines()[-1]
    status, _, err = command_here(
        capsys, *again, "--order=global", "--shuffle-groups=0", "--shuffle-window=1"
    )
    assert status == 2
    assert "was trained with order 'near', now 'global'" in err.splitlines()[-1]


def test_auto_is_global_for_a_folder_and_goes_on_as_before(shades, tmp_path, capsys):
    out = tmp_path / "auto"
    train_here(shades, out)
    path = out / "config.yaml"
    assert yaml.safe_load(path.read_text())["order"] == "global"
    # a run of an earlier release
    for config in (path, out / "last" / "config.yaml"):
        lines = config.read_text().splitlines(keepends=True)
        config.write_text("".join(line for line in lines if "order:" not in line))
    assert TrainConfig.from_yaml(path).order == "auto"
    status, told, err = command_here(capsys, "train", "--config", str(path), "--resume")
    assert (status, "resuming" in told) == (0, True), err


def test_auto_takes_the_order_of_the_run_whose_data_have_moved():
    near = TrainConfig(order="near", shuffle_groups=4)
    assert TrainConfig().with_order_of(near).order == "near"
    assert TrainConfig(order="global").with_order_of(near).order == "global"
    assert TrainConfig().with_order_of(None).order == "auto"


def test_options_of_the_near_order_without_it_are_refused(shades, tmp_path, capsys):
    args = ["train", "--data", str(shades), "--out", str(tmp_path / "run"), *SMALL]
    status, _, err = command_here(capsys, *args, "--shuffle-window", "3")
    assert status == 2
    assert f"shuffle_window is 3, but the order of {shades}/train is global" in err
    with pytest.raises(DataError, match="shuffle_groups is 99, but global_batch_size is 64"):
        train(
            TrainConfig(
                data=str(shades), out=str(tmp_path / "run"), order="near", shuffle_groups=99
            )
        )
