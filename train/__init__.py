"""Training: configuration, model, optimisation, checkpoints and the loop.

Public are the commands, `python -m train` and `python -m train.export`. Everything else is private,
all modules and folders: what it holds may change in any release.
"""

import sys
from pathlib import Path

if sys.argv[:1] == ["-m"]:  # a command starts, perhaps beside a train.py of the user's
    import runpy

    runpy.run_path(str(Path(__file__).parents[1] / "tarmac.py"))["own_packages_first"]()
