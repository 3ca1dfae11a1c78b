"""The worker processes of the packer."""

import os
import signal

import pytest

from preprocess.geometry import ImageOptions
from preprocess.pool import open_pool
from shards.errors import DataError


def test_a_killed_worker_ends_the_packing_in_one_line(records):
    with open_pool(2) as pool:
        results = pool.pack(records * 20, ImageOptions())
        next(results)
        os.kill(next(iter(pool._executor._processes)), signal.SIGKILL)
        with pytest.raises(
            DataError, match="a worker process was killed, perhaps for lack of memory; what is finished is kept"
        ):
            list(results)
