"""Try to lose something: kills, full disks, corruption, other ranks. `python -m tests.faults
[--quick] [NAME ...]`

Runs each experiment of this folder as a program of its own, prints all their rows as one table, and
leaves with status 1 if anything was lost.
"""

import argparse
import subprocess
import sys
from importlib.util import find_spec

from tests.faults.report import Row

EXPERIMENTS = (
    "packing",
    "cluster",
    "saving",
    "training",
    "elastic",
    "disk",
    "corruption",
    "fuzz",
    "remote",
    "nodes",
)


def main() -> None:
    """Run the experiments one after the other."""
    there = [name for name in EXPERIMENTS if find_spec(f"tests.faults.{name}")]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "names", nargs="*", default=there, metavar="NAME", help=f"some of {', '.join(there)}"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few moments of each, to see that it works"
    )
    given = parser.parse_args()
    rows, failed = [], []
    for name in given.names:
        print(f"-- {name}", flush=True)
        command = [
            sys.executable,
            "-m",
            f"tests.faults.{name}",
            *(["--quick"] if given.quick else []),
        ]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                rows += [line.rstrip()] if line.count(" | ") == 2 else []
        if process.returncode:
            failed.append(name)
    print("\n".join(["", str(Row("experiment", "tried", ["lost"])), "-" * 120, *rows]))
    if failed:
        print(f"lost or not run to the end: {', '.join(failed)}", file=sys.stderr)
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
