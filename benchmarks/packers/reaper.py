"""Run a command to the end of its last process and print what it took: `python reaper.py COMMAND`.

Orphans, such as workers of a fork server, become children of this process, which counts their CPU
time too. Linux alone.
"""

import ctypes
import json
import os
import resource
import subprocess
import sys
import time

SUBREAPER = 36  # of prctl


def main() -> None:
    """Run, wait, print."""
    ctypes.CDLL(None).prctl(SUBREAPER, 1, 0, 0, 0)
    start = time.perf_counter()
    done = subprocess.run(sys.argv[1:], stdout=sys.stderr)
    seconds = time.perf_counter() - start
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(json.dumps({"seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime}))
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
