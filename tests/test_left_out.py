"""What the tests say where a browser is missing."""

import os
import subprocess
import sys

import pytest

from tests.building import ROOT

PAGE = "tests/train/sweep/test_sweep.py::test_the_page_shows_every_run_in_its_own_colour"


@pytest.mark.slow
def test_without_a_browser_the_last_lines_name_what_was_left_out_and_the_remedy(tmp_path):
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", PAGE]
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(
        argv, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    title, name, remedy, closing = done.stdout.splitlines()[-4:]
    assert "left out" in title
    assert name == f"{PAGE} (2)"
    assert remedy.startswith("2 tests were left out. They need one of chromium, ")
    assert "apt-get install chromium" in remedy
    assert "2 skipped" in closing
