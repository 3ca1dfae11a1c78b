"""A single process of `accelerate launch` computes on all cores unless asked otherwise."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LAUNCH = "--num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no"
SCRIPT = """
import os, sys
from train.run.launch import spread
assert "torch" not in sys.modules  # which reads the variable once
spread("train")
print("threads:", os.environ.get("OMP_NUM_THREADS"))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "given", "expected"),
    [("", None, "None"), ("", "1", "1"), ("--num_cpu_threads_per_process 1", None, "1")],
)
def test_one_thread_is_used_only_where_it_is_asked_for(flags, given, expected, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("OMP_NUM_THREADS", None)
    env |= {"OMP_NUM_THREADS": given} if given else {}
    command = [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH.split(), *flags.split()]
    done = subprocess.run([*command, str(script)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("threads: ")[1].strip() == expected
