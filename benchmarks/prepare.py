"""Write one road's data, in the road's own environment: `python prepare.py ROAD PHOTOGRAPHS OUT`."""

import importlib
import shutil
import sys
from pathlib import Path


def main() -> None:
    """Write beside OUT and rename when finished."""
    road, root, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    module, _, variant = road.partition(" ")
    unfinished = out.with_name(out.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    importlib.import_module(f"roads.{module}").prepare(root, unfinished, variant)
    unfinished.rename(out)


if __name__ == "__main__":
    main()
