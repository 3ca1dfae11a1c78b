"""Exact multi-label evaluation: metrics, rankings and the report.

Public are the commands, and the names in `__all__` of `eval.metrics` and `eval.ranking`. Everything
else, also the modules inside `eval.metrics`, is private: what it holds may change in any release.
"""

import sys
from pathlib import Path

if sys.argv[:1] == ["-m"]:  # a command starts, perhaps beside a train.py of the user's
    import runpy

    runpy.run_path(str(Path(__file__).parents[1] / "tarmac.py"))["own_packages_first"]()
