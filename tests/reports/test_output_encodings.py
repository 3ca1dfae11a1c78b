"""Names in any script on terminals that cannot show them, and streams that are closed."""

import os
import shlex
import subprocess
import sys

from tests.train.conftest import ROOT, environment

C_LOCALE = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}


def told(*args: str, **variables: str) -> str:
    """Run `python -m ...` where nothing but ASCII may come out: what it prints."""
    argv = [sys.executable, "-m", *args]
    done = subprocess.run(
        argv, env=environment() | variables, cwd=ROOT, capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode("ascii")


def test_inspect_spells_what_an_ascii_terminal_cannot_show(animals, tmp_path):
    shown = told(
        "preprocess.inspect",
        str(animals / "data"),
        "--out",
        str(tmp_path / "猫"),
        PYTHONIOENCODING="ascii",
    )
    assert "\nni\\xf1o " in shown
    assert "\\u732b" in shown
    assert "niño" in (tmp_path / "猫/inspect.json").read_text(encoding="utf-8")


def test_evaluation_names_its_files_in_the_c_locale(animals, tmp_path):
    out = tmp_path / "猫"
    shown = told(
        "eval",
        "--ckpt",
        str(animals / "run/best"),
        "--out",
        str(out),
        "--classes",
        "niño,猫",
        **C_LOCALE,
    )
    assert "\\u732b/report.html" in shown
    assert (out / "plots/top-niño.png").is_file()
    assert "niño" in (out / "per_class.csv").read_text(encoding="utf-8")


def test_predict_with_closed_streams_in_a_latin_1_terminal(animals, tmp_path):
    predict = ["-m", "eval.predict", "--ckpt", str(animals / "run/best"), "--top", "3"]
    csv, pictures = tmp_path / "scores.csv", animals / "source/val/猫"
    command = shlex.join([sys.executable, *predict, str(pictures), "--csv", str(csv)])
    variables = environment() | {"PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(
        ["sh", "-c", f"exec {os.fsdecode(os.fsencode(command))} <&- 2>&-"],
        env=variables, cwd=ROOT, stdout=subprocess.PIPE, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0
    lines = done.stdout.decode("latin-1").splitlines()
    assert len(lines) == 12
    assert all("niño" in line and r"\u732b" in line for line in lines)
    silent = subprocess.run(
        ["sh", "-c", f"exec {command} >&-"], env=variables, cwd=ROOT, timeout=300
    )
    assert silent.returncode == 0
    assert len(csv.read_bytes().splitlines()) == 13
