"""The command that tells a user how fast a set is read and what limits."""

import re
import subprocess
import sys
import time

import pytest

from shards.bench import BenchConfig
from shards.host.machine import num_cores
from shards.loader import Cache, Loader, View
from shards.measuring.reading_speed import Pass, advice
from shards.measuring.stages import STAGES, stage_times
from shards.pipeline.batch_maker import BatchMaker


def bench(*args) -> subprocess.CompletedProcess:
    return subprocess.run(  # the first may compile the decoder
        [sys.executable, "-m", "shards.bench", *args], capture_output=True, text=True, timeout=500
    )


@pytest.mark.slow
@pytest.mark.parametrize("extra", [[], ["--cache", "ram", "--no-train"]])
def test_it_tells_figures_stages_and_one_sentence(packed, extra):
    done = bench(str(packed.parent), "--size", "32", "--seconds", "0.5", *extra)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    speeds = [float(number) for number in re.findall(r"pass +(\d+) images/s", done.stdout)]
    assert len(speeds) == 2
    assert min(speeds) > 0
    assert "70 images" in done.stdout
    for name in STAGES:
        assert re.search(rf"^{name} +\d+\.\d  ", done.stdout, re.M)
    assert done.stdout.splitlines()[-1].endswith(".")


@pytest.mark.parametrize(
    ("options", "absent"),
    [
        ({}, {"resize"}),
        ({"train": False}, {"tiles"}),
        ({"cache": Cache("ram", 64)}, {"read", "tiles", "splice", "decode"}),
        ({"view": View(32, augment="pad")}, {"tiles"}),
    ],
)
def test_stages_add_up_to_the_making_of_the_batches(index, monkeypatch, options, absent):
    """Clocks around the making and around the whole call: by nesting alone the sum is between the
    two.
    """
    size = () if "view" in options else (32,)
    loader, make, made = Loader(index, 16, *size, **options), BatchMaker.make, []
    list(loader)

    def timed(self, epoch, step):
        start = time.thread_time()
        batch = make(self, epoch, step)
        made.append(time.thread_time() - start)
        return batch

    monkeypatch.setattr(BatchMaker, "make", timed)
    start = time.thread_time()
    times = stage_times(loader, 4)
    total = time.thread_time() - start
    assert list(times) == list(STAGES)
    assert len(made) == 5  # the first one, which compiles and opens files, is in no stage
    assert sum(made[1:]) <= sum(times.values()) * 64 / 1e6 <= total - made[0]
    assert {name for name, spent in times.items() if spent == 0} == absent


@pytest.mark.parametrize(
    ("options", "busy", "says"),
    [
        ({}, 1.0, "The processor limits, most of it in decode (500 us) and resize (90 us)"),
        (
            {"size": 24},
            1.0,
            "pack with --short-side 27, or keep the images in memory with --cache ram (0.00 GB).",
        ),
        ({"cache": "ram"}, 1.0, "only fewer pixels help"),
        ({"cache": "ram", "augment": "pad"}, 1.0, "more cores help, or --cache device in training"),
        (
            {"augment": "pad", "size": 2000},
            1.0,
            "keep the images in memory with --cache ram (0.84 GB).",
        ),
        ({}, 0.3, "The threads wait 70% of the time"),
    ],
)
def test_the_sentence_follows_the_figures(index, options, busy, says):
    threads = num_cores()
    config = BenchConfig(data="x", **options)
    stages = {
        "read": 1.0,
        "tiles": 0.0,
        "splice": 20.0,
        "decode": 500.0,
        "resize": 90.0,
        "collate": 7.0,
    }
    warm = Pass(steps=10, images=640, seconds=1.0, cpu_seconds=busy * threads)
    assert says in advice(config, Loader(index, 16, config.size, num_threads=threads), warm, stages)


def test_idle_cores_are_named(index, monkeypatch):
    monkeypatch.setattr("shards.measuring.reading_speed.num_cores", lambda: 8)
    warm = Pass(steps=1, images=64, seconds=1.0, cpu_seconds=2.0)
    sentence = advice(
        BenchConfig(data="x"),
        Loader(index, 16, 32, num_threads=2),
        warm,
        dict.fromkeys(STAGES, 1.0),
    )
    assert (
        sentence
        == "The loader's threads are busy, and only 2 of 8 cores are used: raise --num-threads."
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nowhere"], "nowhere: no split 'train' here"),
        ([], "required: data"),
        (["x", "--seconds", "0"], "seconds is 0.0"),
        (["x", "--num-threads", "-2"], "num_threads is -2"),
    ],
)
def test_a_mistake_gets_one_line(args, says):
    done = bench(*args)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert says in done.stderr
