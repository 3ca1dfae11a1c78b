"""Pack photographs as peers do, in worker processes: `python pool.py HOW ROOT OUT SIDE WORKERS`.

ROOT holds a folder of JPEGs for each class. HOW is one of

    pillow-bilinear, pillow-lanczos   a pool of Pillow, webdataset's ShardWriter in this process
    img2dataset                       as img2dataset does: a shard is one worker's, OpenCV with
                                      INTER_AREA, webdataset's TarWriter
    simplejpeg                        the same with libjpeg-turbo's interface around INTER_AREA
    litdata                           LitData's optimize, Pillow (bilinear)
    copies                            the files as they are, webdataset's ShardWriter

SIDE is the short side in pixels, quality 90. Labels go into a .cls member.
"""

import io
import sys
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

PER_SHARD = 500
QUALITY = 90
BATCH = 16  # images of a task
Photograph = tuple[str, int]  # path, class


def photographs(root: str) -> list[Photograph]:
    """List the photographs and their classes in order."""
    classes = sorted(path for path in Path(root).iterdir() if path.is_dir())
    found = [(str(path), n) for n, folder in enumerate(classes) for path in folder.iterdir()]
    return sorted(found)


def size_of(width: int, height: int, side: int) -> tuple[int, int]:
    """Return (width, height) with this short side, if that is not larger."""
    ratio = min(1.0, side / min(width, height))
    return round(width * ratio), round(height * ratio)


def by_pillow(data: bytes, side: int, how: str) -> bytes:
    """Decode, resize and encode with Pillow."""
    from PIL import Image

    image = Image.open(io.BytesIO(data)).convert("RGB")
    filters = {"bilinear": Image.Resampling.BILINEAR, "lanczos": Image.Resampling.LANCZOS}
    file = io.BytesIO()
    image.resize(size_of(*image.size, side), filters[how]).save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def by_opencv(data: bytes, side: int) -> bytes:
    """Decode, resize and encode with OpenCV, as img2dataset does."""
    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    size = size_of(pixels.shape[1], pixels.shape[0], side)
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()


def by_simplejpeg(data: bytes, side: int) -> bytes:
    """Decode and encode with libjpeg-turbo, resize with OpenCV."""
    import cv2
    import simplejpeg

    cv2.setNumThreads(1)
    pixels = simplejpeg.decode_jpeg(data, "RGB")
    size = size_of(pixels.shape[1], pixels.shape[0], side)
    small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return simplejpeg.encode_jpeg(small, QUALITY, "RGB", "420")


def sample(photograph: Photograph, number: int, encode: Any) -> dict[str, Any]:
    """Make what webdataset writes."""
    path, label = photograph
    data = Path(path).read_bytes()
    return {"__key__": f"{number:08d}", "jpg": encode(data), "cls": label}


def do_batch(task: list[tuple[int, Photograph]], encode: Any) -> list[dict[str, Any]]:
    """Make a few samples."""
    return [sample(photograph, number, encode) for number, photograph in task]


def do_shard(task: list[tuple[int, Photograph]], encode: Any, out: str) -> int:
    """Write one shard."""
    from webdataset import TarWriter

    with TarWriter(f"{out}/{task[0][0] // PER_SHARD:06d}.tar") as writer:
        for number, photograph in task:
            writer.write(sample(photograph, number, encode))
    return len(task)


def chunks(root: str, size: int) -> list[list[tuple[int, Photograph]]]:
    """Cut the photographs into tasks."""
    every = list(enumerate(photographs(root)))
    return [every[start : start + size] for start in range(0, len(every), size)]


def by_pool(root: str, out: str, workers: int, encode: Any) -> int:
    """Write shards here of what workers encode."""
    from webdataset import ShardWriter

    num = 0
    with (
        get_context("fork").Pool(workers) as pool,
        ShardWriter(f"{out}/%06d.tar", maxcount=PER_SHARD, verbose=0) as writer,
    ):
        for samples in pool.imap(partial(do_batch, encode=encode), chunks(root, BATCH)):
            for one in samples:
                writer.write(one)
            num += len(samples)
        pool.close()
        pool.join()
    return num


def by_shards(root: str, out: str, workers: int, encode: Any) -> int:
    """Let each worker write shards of its own."""
    with get_context("fork").Pool(workers) as pool:
        num = sum(pool.imap(partial(do_shard, encode=encode, out=out), chunks(root, PER_SHARD), 1))
        pool.close()
        pool.join()
    return num


def optimized(photograph: Photograph, side: int) -> dict[str, Any]:
    """Make what LitData stores."""
    path, label = photograph
    return {"image": by_pillow(Path(path).read_bytes(), side, "bilinear"), "label": label}


def by_litdata(root: str, out: str, workers: int, side: int) -> int:
    """Write LitData's chunks."""
    from litdata import optimize

    every = photographs(root)
    optimize(partial(optimized, side=side), every, out, num_workers=workers, chunk_bytes="64MB")
    return len(every)


def main() -> None:
    """Pack, and print how many."""
    how, root, out, side, workers = sys.argv[1:]
    Path(out).mkdir(parents=True, exist_ok=True)
    kind, _, kernel = how.partition("-")
    if kind == "litdata":
        num = by_litdata(root, out, int(workers), int(side))
    elif kind == "copies":
        num = by_pool(root, out, int(workers), bytes)
    elif kind == "pillow":
        encode = partial(by_pillow, side=int(side), how=kernel)
        num = by_pool(root, out, int(workers), encode)
    else:
        encode = partial(by_opencv if kind == "img2dataset" else by_simplejpeg, side=int(side))
        num = by_shards(root, out, int(workers), encode)
    print(num)


if __name__ == "__main__":
    main()
