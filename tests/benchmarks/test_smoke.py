"""Every benchmark runs to its note, on a handful of samples: what it says of speed here means
nothing.

In this process where that is possible, since modules take longer to load than the measurements do;
of peers that need environments of their own, what runs without those.
"""

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from accelerate.state import AcceleratorState

from preprocess.sources.digits import write_digits
from preprocess.sources.voc import VOC
from shards.bench import main as simulate
from shards.errors import DataError
from tests.train.conftest import pack_here

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
COMMANDS = sorted(path.stem for path in BENCHMARKS.glob("*.py") if "__main__" in path.read_text())
pytestmark = pytest.mark.slow

Run = Callable[..., str]


@pytest.fixture
def benchmark(monkeypatch) -> Iterator[Callable[[str], ModuleType]]:
    """Import a benchmark as `python benchmarks/NAME.py` would find its neighbours; forget all of
    them afterwards.
    """
    num_threads, before = torch.get_num_threads(), set(sys.modules)
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(BENCHMARKS)):
            del sys.modules[name]
    torch.set_num_threads(num_threads)


@pytest.fixture
def run(benchmark, monkeypatch, capsys) -> Run:
    """Run a benchmark's command in this process: what it prints."""

    def call(name: str, *args: object) -> str:
        module = benchmark(name)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, args)])
        module.main()
        return capsys.readouterr().out

    return call


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> Path:
    """A folder in VOC's layout."""
    root = tmp_path_factory.mktemp("photographs") / "voc"
    write_digits(root, num_train=24, num_val=8, size=48)
    return root


@pytest.fixture(scope="module")
def data(photographs, tmp_path_factory) -> Path:
    """The same, packed."""
    root, source = tmp_path_factory.mktemp("packed") / "voc", VOC(photographs)
    for split in ("train", "val"):
        pack_here(root, source.records(split), split, source.class_names)
    return root


@pytest.fixture
def in_this_process(benchmark, monkeypatch) -> None:
    """Let the rounds measure here what each has a process of its own for."""
    measure = benchmark("measure_loader").measure
    monkeypatch.setattr(benchmark("rounds"), "run", measure)


def ratios(text: str, name: str) -> list[str]:
    """Find the cells of a note's first row of that name, which hold figures."""
    row = next(line for line in text.splitlines() if line.startswith(f"| {name}"))
    return [cell.strip() for cell in row.strip("|").split("|")[1:]]


@pytest.mark.parametrize("compare", [False, True])
def test_the_trainer_and_its_bare_step(run, data, monkeypatch, tmp_path, compare):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    AcceleratorState._reset_state(reset_partial_state=True)
    more = ["--compare-precision"] if compare else []
    settings = [
        "--model",
        "test_resnet",
        "--size",
        32,
        "--global-batch-size",
        8,
        "--steps",
        2,
        "--rounds",
        1,
    ]
    text = run("bench_train", data, *settings, "--out", tmp_path / "note.md", *more)
    AcceleratorState._reset_state(reset_partial_state=True)
    assert float(ratios(text, "bf16" if compare else "trainer")[0].split()[0]) > 0
    assert (tmp_path / "note.md").read_text() == text


def test_steps_of_a_gpu_are_rehearsed_without_one(run, data, monkeypatch, tmp_path):
    AcceleratorState._reset_state(reset_partial_state=True)
    small = ["--model", "test_resnet", "--size", 32, "--global-batch-size", 8]
    text = run("gpu_step", data, *small, "--steps", 2, "--rounds", 1, "--out", tmp_path / "note.md")
    AcceleratorState._reset_state(reset_partial_state=True)
    assert float(ratios(text, "bf16, averaged")[0].split()[0]) > 0
    assert (tmp_path / "note.md").read_text().strip() in text


def test_the_loader_alone(run, in_this_process, data):
    settings = [
        "--size",
        32,
        "--global-batch-size",
        8,
        "--threads",
        1,
        "--epochs",
        1,
        "--rounds",
        1,
    ]
    text = run("bench_loader", data, *settings, "--peer-workers", 1)
    assert float(ratios(text, "tarmac, 1 thread")[0].split()[0]) > 0
    assert "sliced, 1 process" in text
    assert "webdataset, 1 process" in text


def test_a_measurement_in_a_process_of_its_own(benchmark, data):
    reading = benchmark("reading").Reading(
        "tarmac", str(data / "train"), 1, 20, size=32, global_batch_size=8, epochs=1
    )
    assert benchmark("rounds").run(reading)["images"] == 24


def test_peers_that_need_no_environment(run, benchmark, in_this_process, photographs, tmp_path):
    """Prepared and read from the originals; of the other setting what makes its photographs."""
    where = ["--root", photographs, "--work", tmp_path / "work", "--settings", "originals"]
    limits = ["--rounds", 1, "--epochs", 1, "--seconds", 0, "--workers", 1]
    text = run("bench_peers", *where, *limits, "--roads", "tarmac,folder pillow,folder decode_jpeg")
    assert "24 photographs" in text
    assert float(ratios(text, "folder decode_jpeg")[0].split()[0]) > 0
    assert "mean PSNR, dB" in text
    run("shrink", photographs, tmp_path / "short256")
    assert len(list((tmp_path / "short256" / "JPEGImages").glob("*.jpg"))) == 24


@pytest.mark.parametrize("road", ["webdataset", "litdata", "streaming", "ffcv", "dali"])
def test_a_road_is_prepared_and_read(run, benchmark, photographs, tmp_path, road):
    if road != "webdataset":
        pytest.importorskip(
            {"dali": "nvidia.dali"}.get(road, road), reason="needs an environment of its own"
        )
    run("prepare", road, photographs, tmp_path / "data")
    reading = benchmark("reading").Reading(
        road, str(tmp_path / "data"), 0, 20, size=32, global_batch_size=8, epochs=1
    )
    assert benchmark("measure_loader").measure(reading)["images"] == 24


def test_environments_name_what_the_system_lacks(benchmark, monkeypatch, tmp_path):
    environments = benchmark("environments")
    assert environments.python_of("tarmac", tmp_path) == sys.executable
    monkeypatch.setattr(environments.shutil, "which", lambda _: None)
    with pytest.raises(
        DataError, match=r"ffcv cannot be built here without g\+\+, pkg-config: apt-get install"
    ):
        environments.python_of("ffcv", tmp_path)
    assert environments.versions(["tarmac"], tmp_path) == []
    assert environments.system()


def test_scaling(run, data, monkeypatch):
    text = run("bench_scaling", data, "--workers", 1, "--epochs", 1, "--rounds", 1)
    assert float(ratios(text, "images/s, 1 processes of 1 thread")[0].split()[0]) > 0


def test_scale(run, tmp_path):
    plot = tmp_path / "scale.png"
    args = ["--sizes", 20_000, "--rounds", 1, "--folder", tmp_path, "--plot", plot]
    text = run("bench_scale", *args)
    assert "| 20,000  | 20" in text
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.iterdir()) == [plot]


def test_rows(run, tmp_path):
    # a slow link: parts that no batch has asked for must not be here by the first batch, even where
    # that is looked at late
    where = ["--out", tmp_path / "note.md", "--link-mb", 2]
    text = run("bench_rows", "--shards", 4, "--classes", 5_000, "--rounds", 1, *where)
    in_parts, before = ratios(text, "by then, MB (1)")
    assert float(in_parts.split()[0]) < float(before.split()[0])
    assert "4 shards of 1,000 rows, 5,000 classes: 5 MB of rows" in text


def test_small_images(run, tmp_path):
    settings = [
        "--num-images",
        60,
        "--global-batch-size",
        16,
        "--workers",
        1,
        "--rounds",
        1,
        "--seconds",
        0.01,
    ]
    text = run("bench_small", *settings)
    assert float(ratios(text, "cache device (cpu)")[0].split()[0]) > 0


def test_augmentation(run):
    text = run("bench_augment", "--size", 20, "--local-batch-size", 6, "--rounds", 1)
    lines = [line for line in text.splitlines() if line.startswith("| TrivialAugment")]
    assert len(lines) >= 3
    assert all(float(line.split("|")[4].split()[0]) > 0 for line in lines)


def test_average_precision(run, benchmark, monkeypatch, tmp_path):
    module = benchmark("bench_metrics")
    if importlib.util.find_spec("torchmetrics") is None:  # of the extra `bench`
        monkeypatch.setattr(module, "ROADS", module.ROADS[:2])
    monkeypatch.setattr(module, "SIZES", ((300, 4),))
    monkeypatch.setattr(module, "SHARDED", (2000, 4))
    monkeypatch.setattr(module, "circumstances", lambda packages: [])
    assert (
        float(
            ratios(run("bench_metrics", "--rounds", 1, "--only", "time"), "300 x 4")[1].split()[0]
        )
        > 0
    )
    extra, size = json.loads(
        run("bench_metrics", "--memory", json.dumps(["tarmac", 2000, 4, "float32"]))
    )
    assert size == pytest.approx(2000 * 4 * 4 / 2**20)
    assert extra >= 0
    module.run_rank(0, 1, str(tmp_path))
    assert json.loads((tmp_path / "1-0.json").read_text())["seconds"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_metrics_of_a_gpu_need_one(run, capsys):
    with pytest.raises(SystemExit) as leaving:
        run("gpu_metrics")
    assert leaving.value.code == 2
    assert (
        "no CUDA device here: bench_metrics.py is the benchmark for a CPU"
        in capsys.readouterr().err
    )


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_metrics_of_a_gpu(run, benchmark, monkeypatch):
    monkeypatch.setattr(benchmark("gpu_metrics"), "SIZES", ((300, 4),))
    assert "300 x 4" in run("gpu_metrics", "--rounds", 1)


def test_planning_a_packing(run, monkeypatch):
    """In two parts and some shards, each listed, ordered and read back."""
    monkeypatch.syspath_prepend(BENCHMARKS.parent)
    text = run("bench_listing", "--records", 120_000, "--workers", 1)
    assert "120,000" in text


def test_figures_of_the_house(run, tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "eval").mkdir()
    (tmp_path / "shards/row.py").write_text("class Row:\n    pass\n\n\na, b = 1, 2\n")
    (tmp_path / "eval/row.py").write_text(
        "class Row:\n    def f(self):\n        pass\n\n\na, b = b, a\n"
    )
    text = run("house_figures", tmp_path)
    assert ratios(text, "files; lines")[0] == "2; 11"
    assert ratios(text, "typed functions")[0] == "0.0%"
    assert ratios(text, "names of several modules")[0] == "1"
    assert ratios(text, "base names of several modules")[0] == "1"
    assert ratios(text, "parallel assignments per 1,000 lines")[0] == "181.8"
    assert ratios(text, "of them no swaps")[0] == "1"


def test_a_table_of_networks(run):
    text = run("networks", "--models", "test_resnet", "--size", 32)
    assert (
        sum("`test_resnet`" in line or "test_resnet |" in line for line in text.splitlines()) == 1
    )


def test_shards_by_address(run, data, tmp_path):
    settings = ["--size", 32, "--global-batch-size", 8, "--threads", 1, "--rounds", 1]
    text = run("bench_remote", data, *settings, "--link-mb", 1, "--out", tmp_path / "note.md")
    assert float(ratios(text, "warm, images/s")[0].split()[0]) > 0
    assert "3 requests" in ratios(text, "first batch in order, ms")[2]
    assert (tmp_path / "note.md").read_text() == text


def test_predictions(run, photographs, tmp_path):
    source = VOC(photographs)
    names = source.class_names
    pack_here(tmp_path / "set", source.records("train"), "train", names, shard_samples=2)
    small = ["--size", 32, "--global-batch-size", 8, "--threads", 1, "--rounds", 1, "--epochs", 1]
    limits = ["--link-mb", 1, "--delay-s", 0.02, "--gpu-images", 100]
    text = run("bench_model", tmp_path / "set", *small, *limits, "--out", tmp_path / "note.md")
    rows = ("decoding", "link (an empty", "requests", "link (half", "GPU")
    for name in rows:
        assert float(ratios(text, name)[3].split()[0]) > 0
    assert ratios(text, "GPU")[0] == "GPU"
    assert (tmp_path / "note.md").read_text() == text


def test_tables_of_a_set_without_images(run, tmp_path, capsys):
    settings = ["--images", 2_000_500, "--classes", 300, "--image-bytes", 1_000]
    assert "2,000,500 images" in run("large_set", tmp_path / "set", *settings)
    simulate(["--simulate=2", "--decode-us=1000", "--global-batch-size=64", str(tmp_path / "set")])
    text = capsys.readouterr().out
    assert "2,000,500 images, 2 GB in 2,001 shards" in text
    assert "those of 10 batches 1.0 times" in text


def test_peers_by_address(run, data, photographs, tmp_path):
    settings = ["--size", 32, "--global-batch-size", 2, "--threads", 1, "--rounds", 1]
    where = ["--root", photographs, "--work", tmp_path / "work", "--peers", "tarmac"]
    text = run("bench_remote", data, *settings, "--link-mb", 1, *where)
    found = ratios(text, "tarmac")
    assert float(found[0]) > 0
    assert found[4:6] == ["12 of 12", "0, 0"]
    assert found[7] == "0, 0"


def test_rules_of_a_cache(run, tmp_path):
    text = run("bench_cache", "--shards", 64, "--groups", 2, "--epochs", 4, "--folder", tmp_path)
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if "64 equal, 2" in line]
    bound, own, lru, _ = (list(map(int, row[2:])) for row in rows)
    assert bound == [90, 75, 50, 25, 10]
    assert all(abs(ours - least) <= 4 for ours, least in zip(own, bound, strict=True))
    assert sum(own) < sum(lru)


def test_every_command_is_run_here():
    """A benchmark without a test is one that nobody notices is broken."""
    others = ("test_gpu_all.py", "test_carry_wheels.py")
    tests = (Path(__file__), *map(Path(__file__).with_name, others))
    text = "".join(path.read_text() for path in tests)
    # run by bench_peers, the second in FFCV's environment, by gpu_all, and by bench_remote
    unseen = {"quality", "crop_ffcv", "noise_photographs", "far_reading"}
    assert [name for name in COMMANDS if f'"{name}"' not in text and name not in unseen] == []


def test_packers(run, photographs, tmp_path):
    where = ["--root", photographs / "JPEGImages", "--out", tmp_path / "note.md"]
    limits = ["--num-images", 12, "--rounds", 1, "--workers", 1]
    packers = ["--packers", "tarmac,pillow-bilinear,img2dataset,copies"]
    text = run("bench_pack", *where, *limits, *packers)
    assert float(ratios(text, "pillow-bilinear")[0].split()[0]) > 0
    assert float(ratios(text, "copies")[0].split()[0]) > 0
    assert "vector instructions" in text
    assert set(json.loads((tmp_path / "note.json").read_text())) == {"short256", "originals"}


def test_between_epochs(run, data):
    settings = ["--size", 32, "--global-batch-size", 8, "--threads", 1, "--epochs", 1]
    text = run("bench_epochs", data, *settings, "--rounds", 1)
    assert float(ratios(text, "as they come")[1].split()[0]) >= 0  # ms of a wait, rounded
    assert "4 batches of 8 at 32 pixels" in text
