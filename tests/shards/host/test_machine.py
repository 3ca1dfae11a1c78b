"""How many cores there are for a rank: what all commands take where --num-threads is 0."""

import pytest

from eval.config import EvalConfig
from eval.predict import PredictConfig
from shards.bench import BenchConfig
from shards.errors import DataError
from shards.host import machine
from shards.host.machine import cores_per_rank, num_cores
from shards.loader import Loader
from shards.sampler import World
from train.config import TrainConfig


@pytest.fixture
def twelve_cores(monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    monkeypatch.setattr(machine, "_cores_of_container", lambda: float("inf"))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)


@pytest.mark.parametrize(
    ("launched", "num_local", "expected"),
    [
        ("", 1, 12),
        ("1", 1, 12),
        ("4", 1, 3),  # a loader of one's own, under a launcher, with a world that names no machine
        ("", 4, 3),
        ("5", 5, 2),
        ("16", 16, 1),
        ("0", 1, 12),
        ("all", 1, 12),
    ],
)
def test_cores_are_shared_out(twelve_cores, monkeypatch, launched, num_local, expected):
    monkeypatch.setenv("LOCAL_WORLD_SIZE", launched)
    assert cores_per_rank(num_local) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 12),
        ({"cpu.max": "max 100000"}, 12),
        ({"cpu.max": "250000 100000"}, 3),
        ({"cpu.max": "5000 100000"}, 1),
        ({"cpu.max": "9900000 100000"}, 12),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 12),
        ({"cpu/cpu.cfs_quota_us": "400000", "cpu/cpu.cfs_period_us": "100000"}, 4),
        ({"cpu.max": "garbage"}, 12),
    ],
)
def test_a_container_has_the_cores_of_its_limit(monkeypatch, tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    limit = machine._cores_of_container(tmp_path)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    monkeypatch.setattr(machine, "_cores_of_container", lambda: limit)
    assert num_cores() == expected


def test_a_loader_takes_its_share_of_them(twelve_cores, index, monkeypatch):
    def num_threads(**options) -> int:
        return Loader(index, 8, 32, **options).num_threads

    assert num_threads() == 12
    assert num_threads(world=World(0, 4, num_local=4)) == 3
    assert num_threads(num_threads=5) == 5
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "6")
    assert num_threads(world=World(3, 6)) == 2


def test_it_is_the_default_of_every_command():
    for config in (TrainConfig, EvalConfig, PredictConfig, BenchConfig):
        assert config.num_threads == 0
    with pytest.raises(
        DataError, match="num_threads is -1: give at least 1, or 0 for one per core"
    ):
        TrainConfig(num_threads=-1)
