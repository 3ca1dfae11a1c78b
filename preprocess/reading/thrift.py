"""Parse Thrift's compact protocol, in which Parquet writes its footer and the headers of pages."""

from typing import Any

_MAX_NESTING = 16
_MAX_ITEMS = 1 << 24  # of a list


def read_struct(data: bytes, at: int = 0, depth: int = 0) -> tuple[dict[int, Any], int]:
    """Parse a struct: (its fields by number, where it ends).

    Raises IndexError where it goes on behind `data`, ValueError where it cannot be one.
    """
    if depth > _MAX_NESTING:
        raise ValueError("nested too deeply")
    found: dict[int, Any] = {}
    number = 0
    while True:
        kind = data[at]
        at += 1
        if kind == 0:
            return found, at
        if kind >> 4:
            number += kind >> 4
        else:
            number, at = _zigzag(data, at)
        if kind & 15 in (1, 2):  # true and false have no value of their own
            found[number] = kind & 15 == 1
        else:
            found[number], at = _value(data, at, kind & 15, depth)


def read_varint(data: bytes, at: int) -> tuple[int, int]:
    """Parse a number of seven bits a byte: (the number, where it ends)."""
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ValueError("a number without an end")


def _zigzag(data: bytes, at: int) -> tuple[int, int]:
    value, at = read_varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    """Parse a value of a field or of a list by its kind."""
    if kind in (1, 2, 3):
        return data[at], at + 1
    if kind in (4, 5, 6):
        return _zigzag(data, at)
    if kind == 7:
        return data[at : at + 8], at + 8
    if kind == 8:
        length, at = read_varint(data, at)
        if at + length > len(data):
            raise IndexError(at)
        return data[at : at + length], at + length
    if kind in (9, 10):
        return _list(data, at, depth)
    if kind == 12:
        return read_struct(data, at, depth + 1)
    raise ValueError(f"a value of kind {kind}")  # a map: there is none in Parquet


def _list(data: bytes, at: int, depth: int) -> tuple[list[Any], int]:
    if depth > _MAX_NESTING:
        raise ValueError("nested too deeply")
    head = data[at]
    at += 1
    num = head >> 4
    if num == 15:
        num, at = read_varint(data, at)
    if num > min(_MAX_ITEMS, len(data) - at):  # an item has a byte at least
        raise IndexError(at)
    items = []
    for _ in range(num):
        item, at = _value(data, at, head & 15, depth + 1)
        items.append(item)
    return items, at
