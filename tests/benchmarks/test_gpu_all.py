"""benchmarks/gpu_all.py before there is a GPU: every command of its rehearsal runs on the CPU, what
needs no CPU's values on the pretended runtime, and its driver loses no section.
"""

import json
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import torch

from eval.__main__ import main as evaluate_command
from preprocess.shard import main as pack_command
from tests.benchmarks.test_smoke import benchmark, run  # noqa: F401 fixtures
from tests.train.here import cpu
from train.__main__ import main as train_command

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]  # minutes, on a busy machine more
COMMANDS = {"preprocess.shard": pack_command, "train": train_command, "eval": evaluate_command}


def options(**given: object) -> Namespace:
    return Namespace(**{"photographs": "", "rehearse": True, "threads": 2, **given})


def sections(module, work: Path, **given: object) -> dict[str, list[list[str]]]:
    """Name the sections' commands."""
    found = module.sections(options(**given), work)
    return {each.name: [list(map(str, command)) for command in each.commands] for each in found}


def test_every_section_is_rehearsed_on_the_cpu(run, benchmark, monkeypatch, tmp_path):  # noqa: F811
    """In this process: each command would import torch for itself."""
    monkeypatch.chdir(tmp_path)
    every = sections(benchmark("gpu_all"), tmp_path)
    monkeypatch.setattr(benchmark("rounds"), "run", benchmark("measure_loader").measure)
    assert list(every)[:2] == ["data", "race"]
    for name, commands in every.items():
        if name == "tests":  # they are collected where they are
            continue
        for _, first, *rest in commands:
            with cpu() as patch:
                if first == "-m":
                    patch.setattr(sys, "argv", rest)
                    COMMANDS[rest[0]]()
                else:
                    run(Path(first).stem, *rest)
    assert (tmp_path / "run/eval-val/report.html").exists()


def test_every_full_command_is_one_that_its_parser_takes(benchmark, monkeypatch, tmp_path):  # noqa: F811
    """Nothing runs: the arguments alone are read."""
    every = sections(benchmark("gpu_all"), tmp_path, rehearse=False, threads=16)
    read = []

    class Read(Exception):
        """The command line was understood."""

    def stop(*_: object, **__: object) -> None:
        raise Read

    for commands in every.values():
        for _, first, *rest in commands:
            if not first.endswith(".py"):
                continue
            name = Path(first).stem
            module = benchmark(name)
            for attribute in ("circumstances", "open_split", "TrainConfig", "rng", "noise"):
                if hasattr(module, attribute):
                    monkeypatch.setattr(module, attribute, stop)
            monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
            monkeypatch.setattr(torch.cuda, "get_device_name", lambda *_: "a GPU")
            monkeypatch.setattr(torch, "randn", stop)
            monkeypatch.setattr(sys, "argv", [name, *rest])
            with pytest.raises(Read):
                module.main()
            read.append(name)
            monkeypatch.undo()
            monkeypatch.syspath_prepend(Path(first).parent)
    assert {"gpu_race", "gpu_ceilings", "gpu_saving", "gpu_metrics", "bench_train"} <= set(read)


def test_no_section_is_lost(benchmark, monkeypatch, capsys, tmp_path):  # noqa: F811
    """One fails, one hangs, and for the last there is no time left."""
    module = benchmark("gpu_all")
    python = [sys.executable, "-c"]
    every = [
        module.Section("fails", 60, [[*python, "print('so far'); raise SystemExit(3)"]]),
        module.Section("works", 60, [[*python, "print('a'); print('10%\\r100%')"]]),
        module.Section("hangs", 6, [[*python, "import time; time.sleep(600)"]]),
        module.Section("late", 60, [[*python, "print('never')"]]),
    ]
    monkeypatch.setattr(module, "sections", lambda *_: every)
    monkeypatch.setattr(module, "PACKAGES", ())
    left = iter((100.0, 100.0, 100.0, 4.0))
    run_section = module.run_section
    monkeypatch.setattr(module, "run_section", lambda section, _: run_section(section, next(left)))
    monkeypatch.setattr(sys, "argv", ["gpu_all.py", "--rehearse", "--out", str(tmp_path / "gpu")])
    assert module.main() == 1
    kept = json.loads((tmp_path / "gpu.json").read_text())["sections"]
    assert [(each["name"], each["status"]) for each in kept] == [
        ("fails", "failed, status 3"),
        ("works", "ok"),
        ("hangs", "timed out"),
        ("late", "no time left"),
    ]
    assert kept[0]["output"] == "so far"
    assert kept[1]["output"] == "a\n100%"
    assert "| hangs" in (tmp_path / "gpu.md").read_text()
    assert "late: no time left" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("name", ["gpu_all", "gpu_race", "gpu_ceilings", "gpu_saving"])
def test_without_a_gpu_one_line_says_so(run, capsys, name):  # noqa: F811
    with pytest.raises(SystemExit) as leaving:
        run(
            name,
            *([] if name == "gpu_ceilings" else ["x"] if name != "gpu_all" else ["--out", "x"]),
        )
    assert leaving.value.code == 2
    assert "no CUDA device here: --rehearse" in capsys.readouterr().err
