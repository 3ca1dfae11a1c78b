"""Several machines on this one: network namespaces with an address, a host name, a disk for a cache
and a folder for temporary files each; a server of objects that counts who asks for what.

They share the file system, as nodes of a cluster share a network disk, but for three folders.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmarks.object_server import Objects, ObjectServer
from tests.faults.processes import Job

INSIDE = "TARMAC_FAULTS_NAMESPACE"
HUB = "10.77.0.254"
READY_S = 120
PORT = "29400"


def enter_namespace(module: str, flags: str, **environment: str) -> None:
    """Start this command again where there is no network but a loopback of its own, if allowed."""
    inside = 'ip link set lo up && exec "$@"'
    unshare = ["unshare", flags, "sh", "-c", inside, "sh"]
    if not shutil.which("unshare") or not shutil.which("ip"):
        return
    if subprocess.run([*unshare, "true"], check=False, capture_output=True).returncode == 0:
        argv = [*unshare, sys.executable, "-m", module, *sys.argv[1:]]
        os.execvpe("unshare", argv, {**os.environ, INSIDE: "1", **environment})


class Machine:
    """One machine: `inside` starts a command there; `folder` has what it does not share."""

    def __init__(self, folder: Path, number: int, num_machines: int) -> None:
        self.address = f"10.77.0.{number + 1}"
        self.folder = folder / f"machine-{number}"
        for name in ("scratch", "private"):
            (self.folder / name).mkdir(parents=True)
            (folder / name).mkdir(exist_ok=True)
        hosts = [f"10.77.0.{other + 1} node{other}" for other in range(num_machines)]
        hosts[number] = f"127.0.1.1 node{number}"  # as Debian has it
        (self.folder / "hosts").write_text("\n".join(["127.0.0.1 localhost", *hosts, ""]))
        mounts = [
            f"hostname node{number}",
            "ip link set lo up",
            "mount -t tmpfs shm /dev/shm",
            f"mount --bind {self.folder}/hosts /etc/hosts",
            *(
                f"mount --bind {self.folder}/{name} {folder}/{name}"
                for name in ("scratch", "private")
            ),
            f"touch {self.folder}/ready",
            "exec sleep 100000",
        ]
        script = " && ".join(mounts)
        self._holder = subprocess.Popen(["unshare", "-n", "-m", "-u", "sh", "-c", script])
        self.inside = ["nsenter", "-t", str(self._holder.pid), "-n", "-m", "-u", "--"]
        self._plug_in(number)

    def _plug_in(self, number: int) -> None:
        ends = time.monotonic() + READY_S
        while not (self.folder / "ready").exists():
            if self._holder.poll() is not None or time.monotonic() > ends:
                raise RuntimeError("a machine cannot be made")
            time.sleep(0.02)
        plug = f"machine{number}"
        peer = ["peer", "name", "eth0", "netns", str(self._holder.pid)]
        command("ip", "link", "add", plug, "type", "veth", *peer)
        command("ip", "link", "set", plug, "master", "hub", "up")
        command(*self.inside, "ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        command(*self.inside, "ip", "link", "set", "eth0", "up")

    def close(self) -> None:
        self._holder.kill()
        self._holder.wait()


class Machines:
    """Machines on one switch, which is where this process is, too."""

    def __init__(self, folder: Path, num_machines: int) -> None:
        self.all = [Machine(folder, number, num_machines) for number in range(num_machines)]

    def launch(
        self, num_machines: int, *args: str, ranks: int = 2, **environment: str
    ) -> list[Job]:
        """Start torchrun on some machines, for a job of `ranks` on each."""
        meeting = ["--nnodes", str(num_machines), "--nproc_per_node", str(ranks)]
        meeting += ["--master_addr", "node0", "--master_port", PORT]
        return [
            Job(
                machine.folder,
                "torch.distributed.run",
                *meeting,
                "--node_rank",
                str(number),
                "-m",
                *args,
                inside=machine.inside,
                ACCELERATE_USE_CPU="true",
                **environment,
            )
            for number, machine in enumerate(self.all[:num_machines])
        ]

    def __enter__(self) -> "Machines":
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self.all:
            machine.close()


def make_hub() -> None:
    """Make the switch, with an address of this process on it; gone with the namespace."""
    command("ip", "link", "add", "hub", "type", "bridge")
    command("ip", "addr", "add", f"{HUB}/24", "dev", "hub")
    command("ip", "link", "set", "hub", "up")


def command(*argv: str) -> None:
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)


def finish(jobs: Sequence[Job]) -> None:
    """Wait for all; raise RuntimeError with the output where one fails."""
    for job in jobs:
        job.finish()


def end_all(jobs: Sequence[Job]) -> list[str]:
    """Wait until no process of any is left; name those that do not end by themselves."""
    return [line for job in jobs for line in job.end()]


def kill(job: Job) -> None:
    """Let a machine die: its agent and all its ranks at once."""
    job.kill(job.members())


def terminate(job: Job) -> None:
    """Ask a machine's agent to end, as a cluster does that wants the machine back."""
    job.process.send_signal(signal.SIGTERM)


class CountingObjects(Objects):
    server: "CountingServer"

    def answer(self, name: str, data: bytes) -> None:
        asked = self.server.ranges if self.headers.get("Range") else self.server.fetched
        with self.server.lock:
            asked[self.client_address[0]].append(name)
        super().answer(name, data)


class CountingServer(ObjectServer):
    """Serves a folder to the machines; `fetched` lists the objects that each address has asked for,
    `ranges` those of which it has asked for some bytes.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, handler=CountingObjects, host=HUB)
        self.fetched: dict[str, list[str]] = defaultdict(list)
        self.ranges: dict[str, list[str]] = defaultdict(list)

    def tars(self, address: str, split: str) -> list[str]:
        """List the shards of a split that an address has asked for."""
        return _shards_of(self.fetched[address], split)

    def early(self, address: str, split: str) -> list[str]:
        """List the shards of which it has asked for images, before they were there."""
        return _shards_of(self.ranges[address], split)


def _shards_of(names: Sequence[str], split: str) -> list[str]:
    return [name for name in names if name.startswith(split) and name.endswith(".tar")]
