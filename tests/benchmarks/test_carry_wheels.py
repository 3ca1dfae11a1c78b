"""benchmarks/carry_wheels.py: what a machine without a network lacks is carried there and installed."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.benchmarks.test_smoke import BENCHMARKS, benchmark  # noqa: F401 a fixture

pytestmark = pytest.mark.slow
SCRIPT = str(BENCHMARKS / "carry_wheels.py")
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
USE = """
import simplejpeg, jsonargparse, docstring_parser, typeshed_client, braceexpand
print(list(braceexpand.braceexpand("{a,b}.tar")))
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    """Downloaded for this Python; skipped without a network."""
    folder = tmp_path_factory.mktemp("wheels")
    command = [sys.executable, SCRIPT, str(folder), "--python", HERE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        pytest.skip("no registry answers in time")
    if done.returncode:
        pytest.skip(f"no registry can be reached: {done.stderr.strip()[-300:]}")
    return folder


def installed_by(python: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(python), SCRIPT, str(folder), "--install"]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_an_empty_environment_installs_all_without_a_network(wheels, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "empty")], check=True, timeout=300)
    python = tmp_path / "empty/bin/python"
    told = installed_by(python, wheels)
    assert told.returncode == 0, told.stderr
    assert "simplejpeg" in told.stdout
    # NumPy, PyYAML and what else such a machine has
    has = Path(sys.modules["numpy"].__file__).parents[1]
    script = f"import sys; sys.path.append({str(has)!r}); {USE}"
    used = subprocess.run([str(python), "-c", script], capture_output=True, text=True, timeout=300)
    assert used.stdout == "['a.tar', 'b.tar']\n", used.stderr
    assert "nothing, all are there" in installed_by(python, wheels).stdout


def test_the_wheels_are_few_and_small_and_for_the_python_that_was_asked_for(wheels):
    found = list(wheels.iterdir())
    assert {path.suffix for path in found} == {".whl"}
    assert sum(path.stat().st_size for path in found) < 3_000_000
    (binary,) = wheels.glob("simplejpeg-*")
    assert f"-cp{HERE.replace('.', '')}-" in binary.name


def test_what_packages_need_is_carried_too(benchmark):  # noqa: F811
    module = benchmark("carry_wheels")
    found = module.with_what_they_need(module.LACKING)
    assert "braceexpand" in found
    assert not {"numpy", "torch", "pyyaml"} & set(found)
    assert len(found) == len(set(found))


def test_an_empty_folder_is_one_line(benchmark, monkeypatch, capsys, tmp_path):  # noqa: F811
    monkeypatch.setattr(sys, "argv", ["carry_wheels.py", str(tmp_path), "--install"])
    assert benchmark("carry_wheels").main() == 2
    assert capsys.readouterr().err == f"error: {tmp_path}: no wheels here; download them first\n"
