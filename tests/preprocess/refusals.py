"""What a source says when it refuses."""

from pathlib import Path

import pytest

from preprocess.record import Source
from shards.errors import DataError


def refused_by(kind: type[Source], root: Path, **flags: object) -> str:
    """List every split of a source that refuses one: its line."""

    def read_all() -> None:
        source = kind(root, **flags)
        for split in source.splits():
            source.records(split)

    with pytest.raises(DataError) as caught:
        read_all()
    assert "\n" not in str(caught.value)
    return str(caught.value)
