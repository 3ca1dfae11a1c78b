"""What the commands share: help that tells what a reader needs, and one line for what goes wrong."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from shards.commandline import option, parse, run


@dataclass(frozen=True)
class Config:
    """Options of each kind."""

    name: str = option("", "what it is called")
    side: int = option(64, "side in pixels")
    scale: tuple[float, ...] = option((), "one or more")
    quiet: bool = option(False, "say nothing")
    images: tuple[str, ...] = option((), "files or folders", positional=True)


def test_help_tells_defaults_that_say_something_and_no_python(capsys):
    with pytest.raises(SystemExit) as leave:
        parse(Config, ["--help"], prog="python -m it", description="Do it.", epilog="example: python -m it a.jpg")
    assert leave.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith("usage: python -m it [options] images\n")
    assert "what it is called\n" in shown
    assert "side in pixels (default: 64)" in shown
    assert "one or more\n" in shown
    assert "files or folders\n" in shown
    assert "type:" not in shown
    assert shown.endswith("example: python -m it a.jpg\n")


def test_flags_are_read_with_dashes_or_underscores():
    config = parse(Config, ["a", "b", "--side=3", "--quiet"], prog="it", description="")
    assert config == Config(side=3, quiet=True, images=("a", "b"))


def file_below_a_file(folder: Path) -> None:
    (folder / "file").write_text("")
    (folder / "file/below").mkdir()


def name_too_long(folder: Path) -> None:
    (folder / ("x" * 300)).write_text("")


def nothing_there(folder: Path) -> None:
    (folder / "nothing").read_bytes()


def folder_for_a_file(folder: Path) -> None:
    folder.read_bytes()


def no_descriptor_left(folder: Path) -> None:
    raise OSError(24, os.strerror(24), str(folder / "x"))


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        (file_below_a_file, "file/below: Not a directory; a file is where a folder is needed"),
        (name_too_long, ": File name too long; choose a shorter path"),
        (nothing_there, "nothing: No such file or directory; check its spelling"),
        (folder_for_a_file, ": Is a directory; a folder is where a file is needed"),
        (no_descriptor_left, "x: Too many open files; raise the limit"),
    ],
)
def test_what_the_system_refuses_is_one_line_with_a_remedy(mistake, told, tmp_path, capsys):
    with pytest.raises(SystemExit) as leave:
        run(lambda: mistake(tmp_path))
    assert leave.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith(f"error: {tmp_path}")
    assert told in line
    assert line.count("\n") == 1


def test_an_error_without_a_path_is_ours_and_keeps_its_traceback():
    def fail() -> None:
        raise OSError(5, os.strerror(5))

    with pytest.raises(OSError, match="Input/output error"):
        run(fail)
