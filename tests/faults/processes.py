"""Start the product's commands, find every process that descends from one, kill some, see what
stays behind.
"""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
# all that a command starts inherits it, also what its parent has left alone
MARK = "TARMAC_FAULTS_JOB"
# seconds: torchrun lets a rank take 30 to end; a busy machine, a multiple of that
GONE_WITHIN = 180
_numbers = itertools.count()


class Job:
    """A command under way: `python -m ...`, with a folder for temporary files and one for its
    output. `inside` is a command that starts it somewhere else, such as nsenter.
    """

    def __init__(
        self, folder: Path, *args: str, inside: Sequence[str] = (), **environment: str
    ) -> None:
        number = next(_numbers)
        self.temporary = folder / "tmp"
        self.temporary.mkdir(parents=True, exist_ok=True)
        self._mark = f"{os.getpid()}-{number}"
        self._output = folder / f"output-{number}.txt"
        env = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.temporary),
            MARK: self._mark,
            **environment,
        }
        self.started = time.monotonic()
        with open(self._output, "w") as file:
            argv = [*inside, sys.executable, "-m", *args]
            self.process = subprocess.Popen(
                argv, env=env, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def members(self, **environment: str) -> list[psutil.Process]:
        """List the job's processes that are alive, or those among them that were started with these
        variables.
        """
        wanted = {MARK: self._mark, **environment}
        return [
            process
            for process in psutil.process_iter()
            if _environment(process).items() >= wanted.items()
        ]

    def kill(self, victims: list[psutil.Process]) -> None:
        """SIGKILL, to all of them before the first can tell the others."""
        for send in (signal.SIGSTOP, signal.SIGKILL) if len(victims) > 1 else (signal.SIGKILL,):
            for victim in victims:
                try:
                    victim.send_signal(send)
                except psutil.NoSuchProcess:
                    continue

    def end(self) -> list[str]:
        """Wait until no process of the job is left; kill and name those that do not end by
        themselves.
        """
        limit = time.monotonic() + GONE_WITHIN
        while time.monotonic() < limit:
            self.process.poll()  # what has ended is no zombie then
            if not self.members():
                self.process.wait()
                return []
            time.sleep(0.05)
        left = self.members()
        names = [_command_of(process) for process in left]
        self.kill(left)
        self.process.wait()
        return [f"still running: {name}" for name in names]

    def finish(self) -> None:
        """Wait for success; raise RuntimeError with the output otherwise."""
        if self.process.wait():
            command = " ".join(map(str, self.process.args))
            raise RuntimeError(
                f"{command}\nleft with status {self.process.returncode}:\n{self.output}"
            )

    def wait_for(self, sign: str) -> bool:
        """Wait until the output holds `sign`; False if the process ended before."""
        while sign not in self.output:
            if self.process.poll() is not None:
                return sign in self.output
            time.sleep(0.01)
        return True


def _command_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline()[:6])
    except psutil.Error:
        return f"process {process.pid}, which has ended by now"


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return {} if process.status() == psutil.STATUS_ZOMBIE else process.environ()
    except psutil.Error:
        return {}


def parent_of(process: psutil.Process) -> int | None:
    """Give the number of a process's parent; None of one that has ended meanwhile."""
    try:
        return process.ppid()
    except psutil.Error:
        return None


def unowned_shared_memory(before: set[str]) -> list[str]:
    """List what is in /dev/shm now, was not before, and is mapped by no process each time that it
    is looked at: what is being made, by other programs too, is mapped soon.
    """
    left = _unowned(before)
    for _ in range(3):
        if not left:
            return []
        time.sleep(1)
        left &= _unowned(before)
    return [f"/dev/shm/{name}" for name in sorted(left)]


def _unowned(before: set[str]) -> set[str]:
    new = set(os.listdir("/dev/shm")) - before if os.path.isdir("/dev/shm") else set()
    owned = "\n".join(_maps(process.pid) for process in psutil.process_iter()) if new else ""
    return {name for name in new if name not in owned}


def _maps(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/maps").read_text()
    except OSError:
        return ""


def leftovers(temporary: Path, before: set[str]) -> list[str]:
    """List notices of shared memory and segments that nobody owns."""
    return [str(path) for path in temporary.glob("tarmac-*")] + unowned_shared_memory(before)
