"""Run a module or a file of Python as on a lesser CPU: `python -m tests.emulated v3 pytest
tests/shards`.
"""

import os
import sys

from tests.emulated.levels import LEVELS, can_run, variables

if __name__ == "__main__":
    level, *command = sys.argv[1:] or [""]
    if level not in LEVELS or not command:
        sys.exit(
            f"usage: python -m tests.emulated {{{','.join(LEVELS)}}} MODULE_OR_FILE.py [ARGUMENT ...]"
        )
    if not can_run(level):
        sys.exit(f"this CPU does not have the instructions of x86-64-{level}")
    module = [] if command[0].endswith(".py") else ["-m"]
    os.execve(
        sys.executable, [sys.executable, *module, *command], {**os.environ, **variables(level)}
    )
