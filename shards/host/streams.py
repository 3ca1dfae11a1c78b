"""Standard streams that take any text, in whatever surroundings a command was started."""

import contextlib
import io
import os
import sys


def prepare_streams() -> None:
    """Open the streams that are closed, and let no character of a name end a command."""
    _open_closed_streams()
    _start_in_utf8()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def leave_stdout() -> None:
    """Write nothing more to a stdout that takes nothing more: the interpreter would try at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _open_closed_streams() -> None:
    """Put /dev/null in the place of closed streams: a file that got number 2 would get warnings
    too.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        with contextlib.suppress(OSError):
            os.fstat(number)
            continue
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))  # noqa: SIM115


def _start_in_utf8() -> None:
    """Start this process again in Python's UTF-8 mode where the locale is another one (LC_ALL=C).

    Paths given as arguments are bytes there that no file can be named after, and names of classes
    are no names of files. Python 3.15 has this mode always. The terminal keeps its encoding.
    """
    if (
        os.name != "posix"
        or sys.getfilesystemencoding() == "utf-8"
        or os.environ.get("PYTHONUTF8") == "1"
    ):
        return
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    os.environ.setdefault("PYTHONIOENCODING", f"{encoding}:backslashreplace")
    os.environ["PYTHONUTF8"] = "1"
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
