"""Peers that read from a server, beside Tarmac: what they fetch, and whether batches are the same on
other numbers of ranks. Each runs in a process of its own, in an environment of its own.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from typing import Any

from environments import python_of
from far_reading import Place
from note import table
from object_server import Objects, ObjectServer
from reading import SPLIT

HERE = Path(__file__).parent
BUCKET = "set"
PEERS = ("tarmac", "streaming", "litdata", "webdataset", "datasets")
SHARES = (0.25, 0.5)
EPOCHS = 4  # the first fills the cache, the others are counted
STEPS = 5  # before a state is kept
END_S = 15
ABOUT = (
    "Peers: the same JPEGs in shards of 4 MB each, crops of the same size with Pillow and "
    "torchvision (Tarmac: its own), two workers or threads, batches of 64 in all. Cold: the first "
    "epoch over the link, warm: the second with a cache that holds the set. Fetched in later "
    "epochs: the mean of three with a cache of that share of the set, in percent of its bytes, "
    "without a bound on the link. Same batches: of the global batches of one rank, those that two "
    "ranks have together, as sets. Samples of an epoch on two ranks: read more than once, and "
    "never; fetched by both, of one machine with one cache folder, in percent of the set. Resumed: "
    "five steps on two ranks, then the rest of the epoch on one: read more than once, and never. "
    "What a peer refuses is quoted. Streaming and LitData read from S3 (a server that answers GET "
    "and HEAD), the others over HTTP. WebDataset and HF datasets in the settings of their "
    "documentation: shards to nodes, a shuffle buffer of 1000; HF datasets has no cache of what it "
    "streams. Streaming shuffles within 180 samples, four shards."
)


class BucketObjects(Objects):
    """Objects with what S3's clients ask for besides."""

    def do_HEAD(self) -> None:
        data = self.content(self.path.partition("?")[0].strip("/"))
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()

    def content(self, name: str) -> bytes | None:
        """Read the object of a name, in the bucket or beside it."""
        return super().content(name.removeprefix(f"{BUCKET}/"))

    def end_headers(self) -> None:
        tag = hashlib.md5(self.path.encode(), usedforsecurity=False).hexdigest()
        self.send_header("ETag", f'"{tag}"')
        self.send_header("Last-Modified", formatdate(1e9, usegmt=True))
        self.send_header("Accept-Ranges", "bytes")
        super().end_headers()


class Child:
    """A road's process, which is asked for epochs."""

    def __init__(self, place: Place, python: str) -> None:
        here = place.url.partition("//")[2].partition("/")[0]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HERE.parent), str(HERE)]),
            "OMP_NUM_THREADS": "1",
            "AWS_ACCESS_KEY_ID": "nobody",
            "AWS_SECRET_ACCESS_KEY": "nothing",
            "AWS_DEFAULT_REGION": "us-east-1",
            "S3_ENDPOINT_URL": f"http://{here}",
            "AWS_ENDPOINT_URL": f"http://{here}",
            "HF_HOME": place.cache + "-hub",
        }
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, str(HERE / "far_reading.py"), place.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
            start_new_session=True,
        )

    def ask(self, line: str) -> None:
        """Ask for something; `answer` has it."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for what was asked for; where the process ended, its last words are the error."""
        assert self._process.stdout is not None
        text = self._process.stdout.readline()
        if text:
            found: dict[str, Any] = json.loads(text)
            return found
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return {"error": lines[-1] if lines else "the process ended"}

    def close(self) -> None:
        """Let it end by itself, so that it removes its shared memory."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()

    def stop(self) -> None:
        """End it and its workers."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, 9)
        self._process.wait()


class Road:
    """One road's set behind a server, in this process: its counts are at hand."""

    def __init__(self, road: str, args: Any, work: Path) -> None:
        self.road = road
        self.python = python_of(road, args.work / "environments")
        self._args = args
        self._work = work
        data = args.work / "far" / ("webdataset" if road == "datasets" else road)
        if not data.exists():
            data.parent.mkdir(parents=True, exist_ok=True)
            command = [self.python, str(HERE / "far_reading.py"), "prepare", road]
            paths = os.pathsep.join([str(HERE.parent), str(HERE)])
            environment = {**os.environ, "PYTHONPATH": paths}
            subprocess.run([*command, str(args.root), str(data)], check=True, env=environment)
        self._data = data
        self._num_caches = 0
        lists = args.root / "ImageSets" / "Main"
        self.num_samples = len((lists / f"{SPLIT}.txt").read_text().split())
        files = [path for path in data.rglob("*") if path.is_file() and path.suffix != ".idx"]
        self.set_bytes = sum(path.stat().st_size for path in files)

    @contextmanager
    def server(
        self, megabytes_per_s: float = 0.0, decodes: bool = False
    ) -> Iterator[tuple[ObjectServer, Place]]:
        """Serve the set to one run with a cache of its own."""
        with ObjectServer(self._data, 1e6 * megabytes_per_s, BucketObjects) as server:
            self._num_caches += 1
            cache = self._work / f"{self.road}-{self._num_caches}"
            yield (
                server,
                Place(
                    road=self.road,
                    url=server.url,
                    bucket=f"s3://{BUCKET}",
                    cache=str(cache),
                    set_bytes=self.set_bytes,
                    workers=self._args.threads,
                    size=self._args.size if decodes else 0,
                    global_batch_size=self._args.global_batch_size,
                    port=_free_port(),
                ),
            )
            shutil.rmtree(cache, ignore_errors=True)

    @contextmanager
    def ranks(self, place: Place, num: int) -> Iterator[list[Child]]:
        """Start the processes of a run."""
        places = [replace(place, rank=rank, num_ranks=num) for rank in range(num)]
        with ExitStack() as stack:
            children = []
            for each in places:
                child = Child(each, self.python)
                stack.callback(child.stop)
                children.append(child)
            yield children
            for child in children:
                child.close()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def asked(children: Sequence[Child], lines: Sequence[str]) -> list[dict[str, Any]]:
    """Ask all ranks at once, then wait for all."""
    for child, line in zip(children, lines, strict=True):
        child.ask(line)
    return [child.answer() for child in children]


def speeds(road: Road, link_mb: float) -> list[str]:
    """Measure the first and the second epoch, in images a second."""
    with road.server(link_mb, decodes=True) as (_, place), road.ranks(place, 1) as (child,):
        out: list[str] = []
        for epoch in range(2):
            (found,) = asked([child], [str(epoch)])
            if "error" in found:
                return [*out, _quoted(found), ""][:2]
            images = sum(map(len, found["batches"]))
            out.append(f"{images / found['seconds']:.0f}")
    return out


def fetched_later(road: Road, share: float) -> str:
    """Tell which share of the set is fetched in later epochs with a cache of `share` of it."""
    with road.server() as (server, place), road.ranks(replace(place, share=share), 1) as (child,):
        counts = []
        for epoch in range(EPOCHS):
            (found,) = asked([child], [str(epoch)])
            if "error" in found:
                return _quoted(found)
            counts.append(server.num_sent)
    later = (counts[-1] - counts[0]) / (EPOCHS - 1)
    return f"{100 * later / road.set_bytes:.0f}"


def global_batches(found: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Join the parts of ranks: the keys of each global batch."""
    num_steps = max(len(each["batches"]) for each in found)
    return [
        [key for each in found if step < len(each["batches"]) for key in each["batches"][step]]
        for step in range(num_steps)
    ]


def counted(batches: Sequence[Sequence[str]], num_samples: int) -> str:
    """Tell how many samples were read more than once, and never."""
    times = Counter(key for batch in batches for key in batch)
    again = sum(num - 1 for num in times.values())
    return f"{again}, {num_samples - len(times)}"


def on_ranks(road: Road) -> list[str]:
    """Compare the first epoch of two ranks of a machine with that of one."""
    epochs = []
    for num in (1, 2):
        with road.server() as (server, place), road.ranks(place, num) as children:
            found = asked(children, ["0"] * num)
            fetched = server.num_sent
        wrong = [each for each in found if "error" in each]
        if wrong:
            return [_quoted(wrong[0]), "", ""]
        epochs.append(global_batches(found))
    one, two = epochs
    same = sum(set(a) == set(b) for a, b in zip(one, two, strict=False))
    return [
        f"{same} of {max(len(one), len(two))}",
        counted(two, road.num_samples),
        f"{100 * fetched / road.set_bytes:.0f}",
    ]


def resumed(road: Road) -> str:
    """Stop on two ranks, go on with one."""
    with road.server() as (_, place):
        state = f"{place.cache}-state"
        with road.ranks(place, 2) as children:
            lines = [f"0 {STEPS} {state}-{rank}" for rank in range(2)]
            before = asked(children, lines)
        with road.ranks(place, 1) as (child,):
            (loaded,) = asked([child], [f"load {state}-0"])
            (after,) = asked([child], ["0"]) if "error" not in loaded else ({},)
    for found in (*before, loaded, after):
        if "error" in found:
            return _quoted(found)
    return counted(global_batches(before) + after["batches"], road.num_samples)


def _quoted(found: dict[str, Any]) -> str:
    lines = str(found["error"]).strip().splitlines()
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    return f"refused: {' '.join(named[-1:] or lines[:1])[:200]}".replace("|", "/")


def peers_table(args: Any, work: Path) -> str:
    """Measure each road; lay out a table."""
    rows = []
    for name in args.peers:
        road = Road(name, args, work)
        row = [name, *speeds(road, args.link_mb)]
        row += [fetched_later(road, share) for share in SHARES]
        row += [*on_ranks(road), resumed(road)]
        print(" | ".join(row), flush=True)
        rows.append(row)
    names = ["", "cold, images/s", "warm, images/s"]
    names += [f"fetched later, cache {100 * share:.0f}%" for share in SHARES]
    names += ["same batches on 2 ranks", "samples again, never", "fetched by 2 ranks"]
    names += ["resumed: again, never"]
    return table(names, rows)
