"""The command `tarmac`: what it lists, how it starts the others, and what it says to what it does
not know.
"""

import sys
from pathlib import Path

import pytest

from eval.config import EvalConfig
from shards.commandline import parse
from tarmac import COMMANDS, main
from tests.building import ROOT, run
from tests.conftest import write_imagefolder

ALL_OF_TORCH = ("torch", "numpy", "accelerate", "matplotlib")


def tarmac(folder: Path, *words: str, code: str = ""):
    """Run it from the source tree."""
    start = ["-c", code] if code else ["-m", "tarmac"]
    return run([sys.executable, *start, *words], folder, {"PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_help_lists_every_command_in_a_line(words, tmp_path):
    done = tarmac(tmp_path, *words)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0] == "usage: tarmac COMMAND [options]"
    for name, command in COMMANDS.items():
        assert [
            line
            for line in lines
            if line.split()[:1] == [name] and line.endswith(f"  {command.does}")
        ]


def test_help_is_quick_because_it_imports_no_library(tmp_path):
    code = f"import sys, tarmac; tarmac.main(); sys.exit(bool(sys.modules.keys() & {ALL_OF_TORCH}))"
    done = tarmac(tmp_path, code=code)
    assert (done.returncode, done.stderr) == (0, "")


def test_version(installed, tmp_path):
    done = installed.run(tmp_path, "tarmac", "--version")
    assert (done.returncode, done.stdout) == (0, "tarmac 0.1.0\n")


@pytest.mark.parametrize(
    ("word", "answer"),
    [("trian", "give train;"), ("--data", "give pack or verify or")],
)
def test_an_unknown_command_is_one_line(word, answer, tmp_path):
    done = tarmac(tmp_path, word)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: unknown command {word!r}: {answer}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_that_of_the_module(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["tarmac", name, "--help"])
    with pytest.raises(SystemExit) as leave:
        main()
    assert leave.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: tarmac {name} [options]")
    assert f"tarmac {name} " in shown[shown.index("example: ") :]
    monkeypatch.setattr(sys, "argv", ["tarmac", name, "--nothing"])
    with pytest.raises(SystemExit) as leave:
        main()
    assert leave.value.code == 2
    assert capsys.readouterr().err.endswith(f"; tarmac {name} --help lists the options\n")


def test_under_python_m_nothing_is_called_tarmac(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/x/eval/__main__.py"])
    with pytest.raises(SystemExit):
        parse(
            EvalConfig,
            ["--help"],
            prog="python -m eval",
            description="",
            epilog="example: python -m eval",
        )
    shown = capsys.readouterr().out
    assert shown.startswith("usage: python -m eval [options]")
    assert shown.endswith("example: python -m eval\n")


@pytest.mark.slow
def test_the_shards_are_those_of_the_module(tmp_path):
    write_imagefolder(tmp_path / "photos", 4)
    flags = ["--source", "imagefolder", "--root", "photos", "--workers", "1"]
    for command in (["tarmac", "pack"], ["preprocess.shard"]):
        done = run(
            [sys.executable, "-m", *command, *flags, "--out", command[-1]],
            tmp_path,
            {"PYTHONPATH": str(ROOT)},
        )
        assert done.returncode == 0, done.stderr
    names = {
        path.relative_to(tmp_path / "pack")
        for path in (tmp_path / "pack").rglob("*")
        if path.is_file()
    }
    assert len(names) >= 4
    for name in names:
        assert (tmp_path / "pack" / name).read_bytes() == (
            tmp_path / "preprocess.shard" / name
        ).read_bytes()
