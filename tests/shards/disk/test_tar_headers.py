"""Headers patched by hand are those of the standard library."""

import tarfile

import pytest

from shards.disk.writer import _header


@pytest.mark.parametrize(
    "name", ["a.jpg", "é.nir.jpg", "k" * 96 + ".jpg", "k" * 97 + ".jpg", "k" * 300]
)
@pytest.mark.parametrize("size", [0, 1, 511, 30_817, 8**11 - 1, 8**11])
def test_a_header_is_that_of_tarfile(name, size):
    info = tarfile.TarInfo(name)
    info.size = size
    info.mode = 0o644
    assert _header(name, size) == info.tobuf(tarfile.GNU_FORMAT)
