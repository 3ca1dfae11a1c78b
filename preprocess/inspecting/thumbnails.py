"""Small pictures of packed samples, decoded at a fraction of their size."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import simplejpeg
from tqdm import tqdm

from shards.decode.png import decode_png, is_png
from shards.errors import SampleError
from shards.index import DatasetIndex
from shards.pages.html import LONG_SIDE, data_uri
from shards.pipeline.bad_samples import restoring
from shards.pipeline.reader import ShardReader

Sample = tuple[int, int]  # number of the split, number of the sample in it


def decode_small(
    reader: ShardReader, sample: int, min_width: int, min_height: int, colours: str
) -> np.ndarray:
    """Decode red, green and blue of a sample: uint8 [H, W, 3], or [H, W, 1] for colours "GRAY".

    A JPEG is halved as often as its sides allow. Raises SampleError naming shard and key where it
    cannot be decoded.
    """
    index = reader.index
    row = index.samples[sample]
    number = int(row["shard"])
    path = index.shard_path(number) if number < len(index.shards) else index.root / index.rows_name
    where = f"{path}: sample {index.key(sample)}"
    again = restoring(index)
    try:
        data = reader.member(row, 0)
        if is_png(data):
            pixels = decode_png(data, int(row["width"]), int(row["height"]), 3)
            return (
                pixels if colours == "RGB" else cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
            )
        return simplejpeg.decode_jpeg(
            data, colours, fastdct=True, min_height=min_height, min_width=min_width
        )
    except SampleError as error:
        raise SampleError(f"{where}: {error}; {again}") from error
    except ValueError as error:
        raise SampleError(f"{where}: damaged JPEG ({error}); {again}") from error


def thumbnails(
    indexes: Sequence[DatasetIndex], samples: Iterable[Sample], num_threads: int
) -> dict[Sample, str]:
    """Make a data URI of each sample, once however often it is asked for."""
    wanted = sorted(set(samples))
    readers = [ShardReader(index) for index in indexes]

    def uri(sample: Sample) -> str:
        split, number = sample
        row = indexes[split].samples[number]
        width = int(row["width"])
        height = int(row["height"])
        scale = min(1.0, LONG_SIDE / max(width, height))
        sides = max(1, round(width * scale)), max(1, round(height * scale))
        return data_uri(decode_small(readers[split], number, *sides, "RGB"))

    with ThreadPoolExecutor(num_threads) as threads:
        made = threads.map(uri, wanted)
        bar = tqdm(
            made,
            total=len(wanted),
            desc="drawing pictures",
            unit="image",
            leave=False,
            disable=None,
        )
        return dict(zip(wanted, bar, strict=True))
