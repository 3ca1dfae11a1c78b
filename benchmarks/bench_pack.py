"""Packing beside its peers: images/s and CPU time of whole commands, on the same photographs.

    python benchmarks/bench_pack.py --root VOCdevkit/VOC2012/JPEGImages --out \
        benchmarks/results/pack-avx512.md

Two settings: `short256`, the short side made 256 pixels at quality 90, and `originals`. The JPEGs of
--root are linked or copied into folders of classes, as often as --num-images asks for. In each round
every packer has a fresh process and an empty folder; they take turns, and ratios are formed round by
round. All is counted, from the start of the command to its end: modules, workers, the last sync. CPU
time is of all processes, orphans too. A peer that cannot be installed here is refused in the note.
Run it on a quiet machine. Linux alone.

`python -m tests.emulated v3 ...` does not reach processes of another Python, so of a lesser CPU say
NUMBA_CPU_NAME and the like in the environment (tests/emulated/levels.py): they are named in the note.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from environments import NEEDED, python_of, system
from note import circumstances, num_cores, ratios, spread, table, tell
from tqdm import tqdm

from shards.errors import DataError

HERE = Path(__file__).parent
NUM_CLASSES = 20
SHORT_SIDE = 256
SETTINGS = {
    "short256": (
        "tarmac",
        "pillow-bilinear",
        "pillow-lanczos",
        "img2dataset",
        "simplejpeg",
        "litdata",
        "ffcv",
    ),
    "originals": ("tarmac", "copies"),
}
ABOUT = {
    "tarmac": "tarmac pack --source imagefolder, as a user runs it",
    "pillow-bilinear": "a pool of Pillow (bilinear), webdataset.ShardWriter",
    "pillow-lanczos": "the same with LANCZOS, which is tarmac's filter",
    "img2dataset": "a shard is one worker's: OpenCV with INTER_AREA, webdataset.TarWriter",
    "simplejpeg": "the same with libjpeg-turbo (simplejpeg) around INTER_AREA",
    "litdata": "litdata.optimize with Pillow (bilinear)",
    "ffcv": "ffcv.DatasetWriter, RGBImageField(write_mode='jpg')",
    "copies": "the files as they are, webdataset.ShardWriter: no tiles, no check, no statistics",
}
PACKAGES = ("webdataset", "pillow", "simplejpeg", "opencv-python-headless", "numba", "numpy")
VECTORS = {"avx512f": "AVX-512", "avx2": "AVX2", "sse4_2": "SSE4.2", "asimd": "NEON"}


@dataclass(frozen=True)
class Measured:
    """What one command took."""

    seconds: float
    cpu_seconds: float
    num_bytes: int


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=NEEDED, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", required=True, help="a folder with JPEGs")
    parser.add_argument("--num-images", type=int, default=4000, help="each of them several times")
    parser.add_argument("--settings", default=",".join(SETTINGS), help="separated by commas")
    parser.add_argument("--packers", default=",".join(ABOUT), help="separated by commas")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=num_cores())
    parser.add_argument("--work", default="/tmp/packers", help="environments are made here, once")
    parser.add_argument("--out", default="", help="also write the note here, and .json beside it")
    args = parser.parse_args()
    args.root = Path(args.root).resolve()
    args.settings = args.settings.split(",")
    args.packers = args.packers.split(",")
    for given, known in ((args.settings, SETTINGS), (args.packers, ABOUT)):
        for name in set(given) - set(known):
            parser.error(f"{name!r} is unknown; choose from {', '.join(known)}")
    return args


def vectors() -> str:
    """Name the CPU's vector instructions, and variables that tell libraries to do with less."""
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.exists() else set()
    found = next((name for flag, name in VECTORS.items() if flag in flags), "unknown")
    names = ("NUMBA_CPU_NAME", "JSIMD_FORCESSE2", "JSIMD_FORCEAVX2", "OPENCV_CPU_DISABLE")
    told = [f"{name}={os.environ[name]}" for name in names if os.environ.get(name)]
    return f"{found}{', as if without by ' + ' '.join(told) if told else ''}"


def link_photographs(root: Path, into: Path, num: int) -> int:
    """Link or copy JPEGs into folders of classes: how many bytes they have."""
    paths = sorted(path for path in root.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
    if not paths:
        raise DataError(f"--root {root} has no JPEG; give a folder with photographs")
    num_bytes = 0
    for number in range(num):
        folder = into / f"class{number % NUM_CLASSES:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        path = paths[number % len(paths)]
        target = folder / f"{number:06d}.jpg"
        try:
            os.link(path, target)
        except OSError:
            shutil.copyfile(path, target)
        num_bytes += target.stat().st_size
    return num_bytes


def command(packer: str, setting: str, args: argparse.Namespace, out: Path) -> list[str]:
    """Say how a packer is run. Raises DataError for one that cannot be installed."""
    side = SHORT_SIDE if setting == "short256" else 0
    root = str(args.photographs)
    if packer == "tarmac":
        given = ["--source", "imagefolder", "--root", root, "--out", str(out)]
        more = ["--short-side", str(side), "--workers", str(args.workers)]
        return [sys.executable, "-m", "tarmac", "pack", *given, *more]
    python = python_of(packer, Path(args.work)) if packer in ("ffcv", "litdata") else sys.executable
    script = "ffcv_writer.py" if packer == "ffcv" else "pool.py"
    given = [packer, root, str(out), str(side), str(args.workers)]
    return [python, str(HERE / "packers" / script), *given]


def measure(line: list[str], out: Path) -> Measured:
    """Run a command to the end of its last process."""
    shutil.rmtree(out, ignore_errors=True)
    os.sync()
    reaper = [sys.executable, str(HERE / "packers" / "reaper.py"), *line]
    # Modules are compiled in the first round and kept, as they are for users.
    env = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(reaper, capture_output=True, text=True, cwd=HERE.parent, env=env)
    if done.returncode:
        raise RuntimeError(f"{' '.join(line)} failed:\n{done.stderr[-3000:]}")
    taken = json.loads(done.stdout)
    num_bytes = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return Measured(taken["seconds"], taken["cpu_seconds"], num_bytes)


def run_rounds(args: argparse.Namespace, setting: str, folder: Path) -> tuple[dict, dict]:
    """Let the packers of a setting take turns: what each took, round by round; who was refused."""
    lines, refused = {}, {}
    for packer in (name for name in SETTINGS[setting] if name in args.packers):
        try:
            lines[packer] = command(packer, setting, args, folder / packer)
        except DataError as error:
            refused[packer] = str(error)
    taken: dict[str, list[Measured]] = {packer: [] for packer in lines}
    names = list(lines)
    with tqdm(total=(args.rounds + 1) * len(names), desc=setting, disable=None) as bar:
        for number in range(args.rounds + 1):  # the first compiles, and fills the page cache
            for packer in names[number % len(names) :] + names[: number % len(names)]:
                measured = measure(lines[packer], folder / packer)
                if number > 0:
                    taken[packer].append(measured)
                bar.update()
    return taken, refused


def rows_of(taken: dict[str, list[Measured]], num_images: int) -> list[tuple[str, ...]]:
    """Lay out images/s, CPU time and size, and tarmac's ratios to each."""
    ours = taken.get("tarmac", [])
    rows = []
    for packer, measured in taken.items():
        speed = [num_images / one.seconds for one in measured]
        cpu = [one.cpu_seconds / num_images * 1e3 for one in measured]
        row = [packer, spread(speed), spread(cpu, 2), f"{measured[0].num_bytes / num_images:,.0f}"]
        if ours:
            row.append(spread(ratios([num_images / one.seconds for one in ours], speed), 2))
            row.append(spread(ratios(cpu, [one.cpu_seconds / num_images * 1e3 for one in ours]), 2))
        rows.append(tuple(row))
    return rows


def main() -> None:
    """Measure and tell."""
    args = parse()
    lines = ["# Packing", "", *circumstances(PACKAGES), f"- vector instructions: {vectors()}"]
    lines.append(f"- system: {system()}")
    results = {}
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        args.photographs = Path(folder) / "photographs"
        num_bytes = link_photographs(args.root, args.photographs, args.num_images)
        mean = f"{num_bytes / args.num_images:,.0f}"
        lines += [f"- data: {args.num_images} JPEGs, {mean} bytes each; {args.workers} workers"]
        lines += [
            f"- n = {args.rounds} rounds; median (lowest..highest); starts and syncs included"
        ]
        for setting in args.settings:
            taken, refused = run_rounds(args, setting, Path(folder) / "packed")
            head = (
                "packer",
                "images/s",
                "CPU ms/image",
                "bytes",
                "tarmac: images/s, ratio",
                "less CPU",
            )
            rows = rows_of(taken, args.num_images)
            lines += ["", f"## {setting}", "", table(head[: len(rows[0])], rows), ""]
            lines += [f"- {packer}: {ABOUT[packer]}" for packer in taken]
            lines += [f"- {packer}: refused ({why})" for packer, why in refused.items()]
            results[setting] = {
                packer: {
                    "images_per_second": [args.num_images / one.seconds for one in measured],
                    "cpu_ms": [one.cpu_seconds / args.num_images * 1e3 for one in measured],
                    "median_cpu_ms": statistics.median(
                        one.cpu_seconds / args.num_images * 1e3 for one in measured
                    ),
                }
                for packer, measured in taken.items()
            }
    tell("\n".join(lines), args.out)
    if args.out:
        Path(args.out).with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
