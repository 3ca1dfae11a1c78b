"""Memory that a process has freed on the CPU is its own for the next step."""

import ctypes
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from tests.faults.processes import ROOT
from train.run.host_memory import keep_freed_memory

STEPS = """
import resource, sys, torch
from train.run.host_memory import keep_freed_memory
if sys.argv[1] == "kept" and not keep_freed_memory(torch.device("cpu")):
    print("no glibc")
    sys.exit()
def step():
    for _ in range(4):
        torch.zeros(64 << 20, dtype=torch.uint8).add_(1)
for _ in range(3):  # the second may take two more blocks: what lies between decides
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how):
    """Count the page faults of ten steps with the same tensors of 64 MB, in a process of its own."""
    words = [sys.executable, "-c", STEPS, how]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    if done.stdout == "no glibc\n":
        pytest.skip("no glibc, which alone has mallopt")
    return int(done.stdout)


def test_pages_of_a_step_do_not_fault_again_in_the_next():
    assert 20 * faults("kept") < faults("given back")


def test_nothing_is_changed_on_another_device_or_with_another_c_library(monkeypatch):
    called = []
    library = SimpleNamespace(mallopt=lambda *at: called.append(at) or 1)
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    assert not keep_freed_memory(torch.device("cuda"))
    assert not called
    assert keep_freed_memory(torch.device("cpu"))
    assert len(called) == 2
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    assert not keep_freed_memory(torch.device("cpu"))
