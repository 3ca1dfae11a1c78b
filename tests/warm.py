"""Commands in processes of their own that need not import torch: each is forked from one that has.

It has its own variables, folder, output and exit status, as `python -m` would, without the five
seconds of imports. What is about the start itself (launchers, what is imported when), or is found
by its variables in /proc, is started as a user does.
"""

import json
import os
import runpy
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

ROOT = Path(__file__).parents[1]
PRELOADED = ("train.loop", "eval.evaluation", "torch._dynamo", "matplotlib.pyplot")
LONGEST = 1 << 17  # bytes of a request, most of which are variables
NUMBER = struct.Struct("q")
# what says which job and rank a process is: read when a command starts, not when it imports
OF_A_RANK = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
OF_A_RANK |= {"ACCELERATE_USE_CPU", "PYTEST_CURRENT_TEST", "TMPDIR"}


class Started:
    """A command under way. It was forked elsewhere: its parent tells of it through a pipe."""

    def __init__(self, told: int, words: Sequence[str]) -> None:
        self._told, self.args = told, words
        self.pid = self._number()
        self.returncode: int | None = None

    def _number(self) -> int:
        data = os.read(self._told, NUMBER.size)
        if len(data) < NUMBER.size:
            raise RuntimeError("the process that has imported torch has ended")
        return int(NUMBER.unpack(data)[0])

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            poll = select.poll()  # takes files of any number; select has no place for the 1,025th
            poll.register(self._told, select.POLLIN)
            if not poll.poll(None if timeout is None else 1000 * timeout):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = self._number()
            os.close(self._told)
        return self.returncode

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


class _Origin:
    """The process that has imported torch, with the variables that imports may read."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.warm", str(theirs.fileno())],
                env={**variables, "PYTHONPATH": str(ROOT)},
                cwd=ROOT,
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
            )

    def start(
        self, words: Sequence[str], variables: Mapping[str, str], out: IO[bytes], err: IO[bytes]
    ) -> Started:
        message = json.dumps([list(words), dict(variables)]).encode()
        told, tells = os.pipe()
        try:
            socket.send_fds(self._channel, [message], [out.fileno(), err.fileno(), tells])
        finally:
            os.close(tells)
        return Started(told, words)

    def end(self) -> None:
        self._channel.close()
        self._process.wait()


MAX_ORIGINS = 2  # each takes 500 MB
_origins: dict[frozenset[tuple[str, str]], _Origin] = {}


def start(
    words: Sequence[str], variables: Mapping[str, str], out: IO[bytes], err: IO[bytes]
) -> Started:
    """Start `python -m WORDS` in the repository's folder."""
    imported = {name: value for name, value in variables.items() if name not in OF_A_RANK}
    key = frozenset(imported.items())
    origin = _origins.pop(key, None) or _Origin(imported)
    if len(_origins) == MAX_ORIGINS:  # the one that was used longest ago
        _origins.pop(next(iter(_origins))).end()
    _origins[key] = origin
    return origin.start(words, variables, out, err)


def run_ranks(
    words: Sequence[str], of_ranks: Sequence[Mapping[str, str]], timeout: float = 300
) -> subprocess.CompletedProcess[str]:
    """Run a command on every rank, each with its variables, to the end of all."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        ranks = [start(words, variables, out, err) for variables in of_ranks]
        try:
            statuses = [rank.wait(timeout) for rank in ranks]
        except subprocess.TimeoutExpired:
            for rank in ranks:
                if rank.returncode is None:
                    rank.kill()
            raise
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(words, next(filter(None, statuses), 0), *texts)


def _serve(channel: socket.socket) -> list[str]:
    """Fork for each request; return, in the fork, the words of its command."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # forks need not be waited for
    while True:
        message, files, *_ = socket.recv_fds(channel, LONGEST, 3)
        if not message:
            sys.exit()
        if os.fork():
            for file in files:
                os.close(file)
            continue
        channel.close()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        words, variables = json.loads(message)
        out, err, tells = files
        if command := os.fork():
            _tell(command, out, err, tells)
        os.close(tells)
        for place, file in ((1, out), (2, err)):
            os.dup2(file, place)
            os.close(file)
        os.environ.clear()
        os.environ.update(variables)
        return list(words)


def _tell(command: int, out: int, err: int, tells: int) -> None:
    """Pass on a command's number and, when it has ended, its status."""
    os.close(out)
    os.close(err)
    os.write(tells, NUMBER.pack(command))
    _, status = os.waitpid(command, 0)
    os.write(tells, NUMBER.pack(os.waitstatus_to_exitcode(status)))
    os._exit(0)


def _main() -> None:
    import gc
    import importlib

    gc.disable()
    for name in PRELOADED:
        importlib.import_module(name)
    gc.freeze()
    gc.enable()
    sys.argv = _serve(socket.socket(fileno=int(sys.argv[1])))
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
