"""Scripts of gpu_all.py on the pretended runtime: `python -m tests.pretend.rehearsal DATA`.

Those whose figures do not depend on what kernels compute. What is printed last, as JSON, maps each
to its exit status.
"""

import json
import sys
from pathlib import Path

import torch

from train.run import saving

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def main() -> None:
    sys.path.insert(0, str(BENCHMARKS))
    saving.check_weights = lambda *_: None
    saving.check_finite = lambda *_: None
    data = sys.argv[1]
    scripts = {
        "gpu_race": [data, "--rehearse"],
        "gpu_ceilings": ["--rehearse"],
        "gpu_saving": [data, "--rehearse"],
    }
    found = {}
    for name, arguments in scripts.items():
        sys.argv = [name, *arguments]
        found[name] = __import__(name).main() or 0
    print(json.dumps({"device": torch.cuda.get_device_name(), **found}), flush=True)


if __name__ == "__main__":
    main()
