"""Read a label file of YOLO: a line per object, first its class id, then a box or polygon."""

import math
from pathlib import Path

from preprocess.reading.small_files import read_small
from preprocess.sources.yolo_config import YoloConfig
from shards.errors import DataError, count_of

_MAX_BYTES = 32 << 20  # polygons of one image
_BOX = 5  # the class and four numbers
_SHOWN = 60


def shown_classes(path: Path, config: YoloConfig) -> set[int]:
    """Return the ids of the classes in a label file. Raises DataError with the line."""
    found = set()
    for number, line in enumerate(read_small(path, _MAX_BYTES).splitlines(), 1):
        fields = line.split()
        if fields:
            found.add(_class_of(fields, config, f"{path}:{number}"))
    return found


def _class_of(fields: list[str], config: YoloConfig, where: str) -> int:
    what = _odd_numbers(fields, config.keypoints)
    if what:
        raise DataError(f"{where}: {' '.join(fields)[:_SHOWN]!r} {what}")
    value = float(fields[0])  # 3.0 is 3: numpy.savetxt writes it so
    if value not in config.names:
        raise DataError(
            f"{where}: class {fields[0][:_SHOWN]} is not in {config.path}, which names "
            f"{count_of(len(config.names), 'class')}, {min(config.names)} to {max(config.names)}"
        )
    return int(value)


def _odd_numbers(fields: list[str], keypoints: int) -> str:
    """Say what is wrong with the numbers of a line; "" where nothing is."""
    for text in fields:
        try:
            if "_" in text or not math.isfinite(float(text)):
                raise ValueError(text)
        except ValueError:
            sep = ", with spaces between" if "," in text or ";" in text else ""
            return f"has {text[:_SHOWN]!r}, which is no number; write the class id and its box{sep}"
    num = len(fields)
    if num in (_BOX, _BOX + keypoints) or (num > _BOX + 1 and num % 2):
        return ""
    if num == _BOX + 1:
        return (
            "has 6 numbers: a class, a box and a score of predictions; give labels, without scores"
        )
    return (
        f"has {count_of(num, 'number')}; write a class id and 4 numbers of a box, or the x and y "
        "of a polygon"
    )
