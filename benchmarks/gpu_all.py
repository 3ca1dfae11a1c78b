"""Everything that only a GPU can show, in one command and within a budget of time.

    python benchmarks/gpu_all.py --out benchmarks/results/gpu
    python benchmarks/gpu_all.py --rehearse --out rehearsal

Each section is a process of its own with a limit of its own: one that fails, hangs or finds no time
left does not take the others with it. `OUT.json` is written again after each section, `OUT.md`, the
notes of all, at the end. Without `--photographs` the pictures are made here: noise with the
spectrum of photographs, whose JPEGs are about as long. `--rehearse` runs every section small, on
the CPU where there is no GPU, so that the first minute on one meets no first error. `--wheels`
installs what the machine lacks from a folder that `carry_wheels.py` made where there is a network.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from carry_wheels import install
from note import circumstances, table

HERE = Path(__file__).parent
ROOT = HERE.parent
PACKAGES = ("torch", "torchvision", "timm", "accelerate", "numpy", "simplejpeg")
TAIL = 4000  # characters kept of what a section printed
BUDGET_S = 540.0


@dataclass(frozen=True)
class Section:
    """A part of the whole: commands, run in order, and the seconds that they may take."""

    name: str
    seconds: float
    commands: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Outcome:
    """What a section came to: `ok`, `failed`, `timed out`, or `no time left`."""

    name: str
    status: str
    seconds: float
    output: str


def script(name: str, *args: object) -> list[str]:
    """Spell the call of a benchmark of this folder."""
    return [sys.executable, str(HERE / f"{name}.py"), *map(str, args)]


def module(name: str, *args: object) -> list[str]:
    """Spell the call of a command of the product."""
    return [sys.executable, "-m", name, *map(str, args)]


def data_commands(args: argparse.Namespace, work: Path) -> list[list[str]]:
    """Pack photographs at a short side of 256 pixels, and the embedded digits; small, photographs
    alone.
    """
    made = args.photographs or work / "photographs"
    num = 24 if args.rehearse else 2000
    make = [] if args.photographs else [script("noise_photographs", made, "--num", num)]
    pack = module("preprocess.shard", "--source", "voc", "--root", made, "--out", work / "packed")
    digits = [] if args.rehearse else [module("preprocess.shard", "--out", work / "digits")]
    return [*make, [*pack, "--short-side", "256"], *digits]


def step_commands(args: argparse.Namespace, work: Path) -> list[list[str]]:
    """Time the step by its options, the trainer beside the bare step, and fp32 beside mixed
    precision.
    """
    if args.rehearse:
        tiny = ("--size", 32, "--global-batch-size", 8, "--steps", 2, "--rounds", 1)
        return [
            script(name, work / "packed", "--model", "test_resnet", *tiny)
            for name in ("gpu_step", "bench_train")
        ]
    commands = [script("gpu_step", work / "packed", "--steps", 30, "--rounds", 3)]
    for model, batch in (("resnet18", 256), ("resnet50", 256), ("vit_small_patch16_224", 256)):
        settings = ("--model", model, "--global-batch-size", batch, "--threads", args.threads)
        commands.append(
            script("bench_train", work / "packed", *settings, "--steps", 7, "--rounds", 3)
        )
    compared = ("--model", "resnet50", "--compare-precision", "--global-batch-size", 128)
    return [*commands, script("bench_train", work / "packed", *compared, "--steps", 10)]


def feed_commands(args: argparse.Namespace, work: Path) -> list[list[str]]:
    """Time the loader alone, by threads."""
    tiny = ("--size", 32, "--global-batch-size", 8, "--epochs", 1, "--rounds", 1)
    threads = ",".join(str(n) for n in (1, 4, args.threads))
    full = ("--global-batch-size", 256, "--epochs", 2, "--rounds", 3, "--threads", threads)
    rest = (*tiny, "--threads", 1) if args.rehearse else full
    return [script("bench_loader", work / "packed", "--peer", "none", *rest)]


def augment_command(args: argparse.Namespace) -> list[str]:
    """Time the augmentation of batches on the device, beside torchvision's per sample."""
    tiny = ("--size", 20, "--local-batch-size", 6, "--rounds", 1)
    full = ("--device", "cuda", "--local-batch-size", 256, "--rounds", 3)
    return script("bench_augment", *(tiny if args.rehearse else full))


def train_commands(args: argparse.Namespace, work: Path) -> list[list[str]]:
    """Train the default recipe as a user does, stop in the middle, and evaluate."""
    run = work / "run"
    data = work / ("packed" if args.rehearse else "digits")
    small = ("--epochs", 1, "--size", 32, "--global-batch-size", 16) if args.rehearse else ()
    train = module("train", "--config", "digits", "--data", data, "--out", run, *small)
    return [train, module("eval", "--ckpt", run / "best", "--data", data)]


def sections(args: argparse.Namespace, work: Path) -> list[Section]:
    """List everything, the most telling first: what the budget cuts off is the end."""
    rehearse = ["--rehearse"] if args.rehearse else []
    tests = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider"]
    if args.rehearse:  # what is marked for a GPU is collected, and skipped without one
        tests.append("tests/eval/test_gpu.py")
    return [
        Section("data", 90, data_commands(args, work)),
        Section("race", 30, [script("gpu_race", work / "packed", *rehearse)]),
        Section("tests", 150, [tests]),
        Section("ceilings", 45, [script("gpu_ceilings", *rehearse)]),
        Section("training", 120, train_commands(args, work)),
        Section("step", 150, step_commands(args, work)),
        Section("feed", 90, feed_commands(args, work)),
        Section("augmentation", 45, [augment_command(args)]),
        Section("metrics", 60, [script("gpu_metrics", *rehearse)]),
        Section("saving", 45, [script("gpu_saving", work / "packed", *rehearse)]),
    ]


def run_section(section: Section, left: float) -> Outcome:
    """Run a section's commands until one fails or its time, or all, is over."""
    started = time.monotonic()
    limit = min(section.seconds, left)
    if limit < 5:
        return Outcome(section.name, "no time left", 0.0, "")
    output = b""
    status = "ok"
    for command in section.commands:
        rest = limit - (time.monotonic() - started)
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), *_inherited()))},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=max(rest, 0.1),
            )
        except subprocess.TimeoutExpired as expired:
            output += expired.stdout or b""
            status = "timed out"
            break
        output += done.stdout
        if done.returncode and not _has_no_tests(command, done.returncode):
            status = f"failed, status {done.returncode}"
            break
    return Outcome(section.name, status, time.monotonic() - started, _last_lines(output))


def _inherited() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _has_no_tests(command: Sequence[str], status: int) -> bool:
    return "pytest" in command and status == 5


def _last_lines(output: bytes) -> str:
    """Keep the end of what was printed, of a progress bar its last state."""
    lines = [line.rpartition("\r")[2] for line in output.decode(errors="replace").split("\n")]
    return "\n".join(lines).strip()[-TAIL:]


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", required=True, help="where to write: OUT.json and OUT.md")
    parser.add_argument("--photographs", default="", help="folder in VOC's layout")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds for everything")
    parser.add_argument("--only", default="", help="sections, separated by commas")
    parser.add_argument("--rehearse", action="store_true", help="everything tiny, also on a CPU")
    parser.add_argument(
        "--threads", type=int, default=min(16, os.cpu_count() or 1), help="of the loader"
    )
    parser.add_argument("--wheels", default="", help="folder of carry_wheels.py, for what lacks")
    parser.add_argument("--work", default="", help="folder to work in; OUT.work where not given")
    args = parser.parse_args()
    if not (args.rehearse or torch.cuda.is_available()):
        parser.error("no CUDA device here: --rehearse runs everything small on the CPU")
    return args


def main() -> int:
    """Run the sections one after the other; status 1 where one did not end well."""
    args = parse()
    started = time.monotonic()
    out = Path(args.out)
    work = Path(args.work or f"{out}.work").absolute()
    work.mkdir(parents=True, exist_ok=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    every = sections(args, work)
    chosen = args.only.split(",") if args.only else [section.name for section in every]
    if unknown := sorted(set(chosen).difference(section.name for section in every)):
        print(f"error: --only: no section {', '.join(unknown)}", file=sys.stderr)
        return 2
    if args.wheels:  # before the versions are looked at
        print(f"installed: {', '.join(install(Path(args.wheels))) or 'nothing'}", flush=True)
    outcomes: list[Outcome] = []
    facts = circumstances(PACKAGES, device)
    for section in every:
        if section.name not in chosen:
            continue
        print(f"{section.name} ...", flush=True)
        outcome = run_section(section, args.budget - (time.monotonic() - started))
        outcomes.append(outcome)
        print(f"{section.name}: {outcome.status}, {outcome.seconds:.0f} s", flush=True)
        kept = {"facts": facts, "sections": [asdict(each) for each in outcomes]}
        out.with_name(out.name + ".json").write_text(json.dumps(kept, indent=1) + "\n")
    rows = [(each.name, each.status, f"{each.seconds:.0f}") for each in outcomes]
    notes = [f"## {each.name}\n\n```\n{each.output.strip()}\n```" for each in outcomes]
    text = ["# On a GPU", "", *facts, "", table(("section", "status", "seconds"), rows), "", *notes]
    out.with_name(out.name + ".md").write_text("\n".join(text) + "\n")
    print(table(("section", "status", "seconds"), rows))
    return int(any(each.status != "ok" for each in outcomes))


if __name__ == "__main__":
    sys.exit(main())
