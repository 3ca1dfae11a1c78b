"""Single values out of Parquet files, as pyarrow reads them, however they are written and damaged."""

import itertools
import random

import numpy as np
import pytest

from preprocess.reading import parquet_pages
from preprocess.reading.parquet_footer import read_footer
from preprocess.reading.parquet_pages import ColumnChunk, UnknownPages, read_value
from shards.errors import DataError

pa = pytest.importorskip("pyarrow", reason="no pyarrow")
pq = pytest.importorskip("pyarrow.parquet", reason="no pyarrow")
original = parquet_pages._bytes


def values(num: int, nulls: bool) -> list[bytes | None]:
    rng = np.random.default_rng(0)
    found = [rng.bytes(int(rng.integers(0, 3000))) for _ in range(num)]
    found[5:20] = [found[4]] * 15  # worth a dictionary
    return [None if nulls and number % 7 == 3 else one for number, one in enumerate(found)]


def chunk(path, group: int) -> ColumnChunk:
    described = read_footer(path)[group]
    column = described.columns[0]
    level = pq.ParquetFile(path).schema.column(0).max_definition_level
    return ColumnChunk(column.start, column.length, column.codec, described.num_rows, level)


def forget() -> None:
    for name in ("_pages", "_values", "_dictionary"):
        getattr(parquet_pages, name).cache_clear()


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip", "brotli", "lz4"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("use_dictionary", [True, False])
@pytest.mark.parametrize("page_bytes", [1 << 20, 10_000])
@pytest.mark.parametrize("nulls", [True, False])
def test_every_value_is_the_one_that_was_written(
    tmp_path, compression, version, use_dictionary, page_bytes, nulls
):
    wanted = values(150, nulls)
    images = [None if nulls and n % 11 == 0 else {"bytes": one} for n, one in enumerate(wanted)]
    kind = pa.struct([("bytes", pa.binary())])
    how = {"data_page_size": page_bytes, "row_group_size": 100, "write_batch_size": 8}
    how |= {"compression": compression, "data_page_version": version}
    pq.write_table(
        pa.table({"image": pa.array(images, kind)}),
        tmp_path / "a",
        use_dictionary=use_dictionary,
        **how,
    )
    found = [
        read_value(tmp_path / "a", chunk(tmp_path / "a", group), row)
        for group in range(2)
        for row in random.Random(0).sample(range(100), 100)
        if group == 0 or row < 50
    ]
    order = [random.Random(0).sample(range(100), 100) for _ in range(2)]
    rows = order[0] + [100 + row for row in order[1] if row < 50]
    assert found == [None if images[row] is None else wanted[row] for row in rows]


def test_one_page_is_read_for_one_value(tmp_path, monkeypatch):
    images = [bytes([number]) * 50_000 for number in range(100)]
    path = tmp_path / "a"
    pq.write_table(
        pa.table({"image": images}),
        path,
        use_dictionary=False,
        data_page_size=1 << 17,
        write_batch_size=1,
    )
    forget()
    read = []
    monkeypatch.setattr(
        parquet_pages, "_bytes", lambda path, page: read.append(page) or original(path, page)
    )
    assert read_value(path, chunk(path, 0), 70) == images[70]
    assert len(read) == 1
    assert read[0].size < 300_000


def test_other_encodings_are_left_to_pyarrow(tmp_path):
    path = tmp_path / "a"
    table = pa.table({"image": [b"a", b"bc"]})
    pq.write_table(
        table, path, use_dictionary=False, column_encoding={"image": "DELTA_LENGTH_BYTE_ARRAY"}
    )
    with pytest.raises(UnknownPages, match="encoding 6"):
        read_value(path, chunk(path, 0), 0)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("use_dictionary", [True, False])
def test_damage_is_an_error_of_few_kinds(tmp_path, version, use_dictionary):
    path = tmp_path / "a"
    pq.write_table(
        pa.table({"image": values(30, True)}),
        path,
        compression="none",
        data_page_version=version,
        use_dictionary=use_dictionary,
    )
    whole = path.read_bytes()
    described = chunk(path, 0)
    rng = random.Random(0)
    errors = set()
    for at, row in itertools.product(range(described.start, described.start + 90), (0, 29)):
        damaged = bytearray(whole)
        damaged[at] = rng.randrange(256)
        path.write_bytes(damaged)
        forget()
        try:
            value = read_value(path, described, row)
            assert value is None or len(value) < len(whole)
        except (ValueError, OSError, UnknownPages) as error:
            errors.add(type(error))
    for length in range(0, len(whole), 997):
        path.write_bytes(whole[:length])
        forget()
        try:
            assert read_value(path, described, 0) in (values(30, True)[0],)
        except ValueError as error:
            errors.add(type(error))
    assert ValueError in errors


def test_a_page_that_says_it_is_huge_is_not_unpacked(tmp_path):
    path = tmp_path / "a"

    def number(value: int) -> bytes:
        value <<= 1
        found = b""
        while value > 127:
            found += bytes([value & 127 | 128])
            value >>= 7
        return found + bytes([value])

    def page(size: int, num: int) -> bytes:
        inner = b"\x15" + number(num) + b"\x15\x00\x15\x06\x15\x06\x00"
        return b"\x15\x00\x15" + number(size) + b"\x15" + number(8) + b"\x2c" + inner + b"\x00"

    for size, num, says in (
        (3 << 30, 1, "a page of"),
        (8, 1 << 30, "a page of 1,073,741,824 values"),
    ):
        path.write_bytes(page(size, num) + b"\x04\0\0\0abcd")
        forget()
        with pytest.raises(ValueError, match=says):
            read_value(path, ColumnChunk(0, 1000, "SNAPPY", 1, 0), 0)
    path.write_bytes(page(8, 1) + b"\x04\0\0\0abcd")
    forget()
    assert read_value(path, ColumnChunk(0, 1000, "UNCOMPRESSED", 1, 0), 0) == b"abcd"


def test_the_footer_is_what_pyarrow_says_of_it(tmp_path):
    path = tmp_path / "a"
    table = pa.table({"image": values(90, True), "labels": [[1, 2]] * 90, "x": [None] * 90})
    pq.write_table(table, path, row_group_size=40, compression="zstd")
    groups = read_footer(path)
    metadata = pq.ParquetFile(path).metadata
    assert [group.num_rows for group in groups] == [40, 40, 10]
    for number, group in enumerate(groups):
        for at, column in enumerate(group.columns):
            there = metadata.row_group(number).column(at)
            assert column.name == there.path_in_schema
            assert (column.codec, column.num_values) == (there.compression, there.num_values)
            assert column.num_nulls == (there.statistics and there.statistics.null_count)
            assert column.length == there.total_compressed_size
            assert column.size == there.total_uncompressed_size


def test_a_damaged_footer_is_one_line(tmp_path):
    path = tmp_path / "a"
    pq.write_table(pa.table({"image": values(9, True)}), path)
    whole = path.read_bytes()
    length = int.from_bytes(whole[-8:-4], "little")
    rng = random.Random(0)
    refused = 0
    for _ in range(400):
        damaged = bytearray(whole)
        damaged[-8 - rng.randrange(length)] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            read_footer(path)
        except DataError as error:
            refused += "\n" not in str(error)
    assert refused > 5
    for content in (b"", b"PAR1", whole[-8:], whole[:-8] + b"\xff\xff\xff\x7fPAR1", whole[:-1]):
        path.write_bytes(content)
        with pytest.raises(DataError, match="no footer of Parquet at its end"):
            read_footer(path)
