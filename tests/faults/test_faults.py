"""The experiments of this folder in their short form; `make faults` runs them at full length."""

import subprocess
import sys

import pytest

from tests.faults.cluster import NO_NAMESPACE, NO_RAY
from tests.faults.disk import NOT_TRIED
from tests.faults.nodes import NO_NAMESPACE as OF_MACHINES
from tests.faults.processes import ROOT
from tests.faults.report import Row
from tests.faults.training import VICTIMS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # minutes; a busy machine, a multiple of that
    pytest.mark.skipif(
        sys.platform != "linux", reason="finds processes and shared memory in /proc"
    ),
]


def quick(name: str) -> list[list[str]]:
    """Run an experiment; return the cells of its rows. Nothing may be lost."""
    argv = [sys.executable, "-m", f"tests.faults.{name}", "--quick"]
    result = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=1700)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [[cell.strip() for cell in line.split(" | ")] for line in result.stdout.splitlines()]
    assert rows
    assert {row[2] for row in rows} == {"nothing"}
    return rows


def test_a_killed_packer_leaves_nothing_that_looks_whole():
    assert len(quick("packing")) == 3


def test_a_cluster_that_loses_a_node_a_task_or_its_driver_writes_the_same_tree():
    rows = quick("cluster")  # nine starts of Ray
    if rows[0][1] in (NO_RAY, NO_NAMESPACE):
        pytest.skip(rows[0][1])
    assert len(rows) == 4


def test_a_killed_writer_leaves_a_whole_checkpoint():
    assert len(quick("saving")) == 2


def test_a_killed_training_on_two_ranks_ends_goes_on_and_gives_the_same_bits():
    without_launcher, with_launcher = quick("training")
    assert without_launcher[1].startswith("2 moments")
    assert all(victim in with_launcher[1] for victim in VICTIMS)


def test_other_ranks_give_the_same_losses_and_predictions():
    assert len(quick("elastic")) == 2


def test_a_full_disk_costs_nothing_but_the_run():
    rows = quick("disk")
    if [row[1] for row in rows] == [NOT_TRIED]:
        pytest.skip(NOT_TRIED)
    assert len(rows) == 3


def test_every_damage_is_named_and_mended_to_the_same_bytes():
    assert len(quick("corruption")) == 6


def test_shards_from_a_server_are_right_or_one_line_says_why():
    rows = quick("remote")
    assert len(rows) == 5
    for row in rows[:2]:
        assert int(row[1].split()[0]) >= 300


def test_machines_give_the_losses_and_predictions_of_one_and_fetch_their_own_parts():
    rows = quick("nodes")  # 25 processes that import torch
    if rows[0][1] == OF_MACHINES:
        pytest.skip(OF_MACHINES)
    assert len(rows) == 4


@pytest.mark.parametrize("lost", [[], ["one thing"]])
def test_what_is_lost_fails_the_command(lost, tmp_path):
    script = f"from tests.faults.report import Row, run\nrun(lambda options: iter([Row('a', 'b', {lost})]), '')"
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert result.stdout.strip() == str(Row("a", "b", lost)).strip()
    assert result.returncode == len(lost)
