"""Where the real photographs for tests lie: $TARMAC_TEST_DATA, or ../shared/data beside the repository."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def voc2012_root():
    """Give the folder VOC2012 with real photographs, or skip."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    root = Path(os.environ.get("TARMAC_TEST_DATA", beside)) / "VOCdevkit" / "VOC2012"
    if not (root / "JPEGImages").is_dir():
        pytest.skip(f"no VOC photographs in {root}; set TARMAC_TEST_DATA to the folder that holds VOCdevkit")
    return root
