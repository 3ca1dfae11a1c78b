"""Ask a worker which of the packer's code it has in memory, before it has packed anything."""

from preprocess.images.geometry import ImageOptions, preloaded_for
from preprocess.packing.pool import open_pool


def num_compiled(road: str) -> int:
    from preprocess.jpeg.resizing import resize_scan
    from preprocess.jpeg.strips import read_tokens

    return len({"resized": resize_scan, "kept": read_tokens}[road].signatures)


def main(short_side: int) -> None:
    with open_pool(2, preloaded_for(ImageOptions(short_side=short_side))) as pool:
        print(*pool.run(num_compiled, ["resized", "kept", "resized", "kept"]))
