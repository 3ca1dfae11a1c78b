"""How near a training crop comes to the antialiased bilinear one of Pillow, which torchvision
calls.
"""

import argparse
import io
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from note import table
from PIL import Image

from shards.augment.crops import random_resized_crops
from shards.decode.decoder import Decoder
from shards.index import DatasetIndex
from shards.pipeline.reader import ShardReader

NUM_IMAGES = 300


def psnr(crops: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the PSNR of each crop in dB: uint8 [N, size, size, 3] twice -> float64 [N]."""
    errors = (crops.astype(np.float64) - reference) ** 2
    return 10 * np.log10(255**2 / np.maximum(errors.mean(axis=(1, 2, 3)), 1e-12))


def crop_pillow(data: np.ndarray, box: list[int], size: int) -> np.ndarray:
    """Cut the reference crop: uint8 [size, size, 3]."""
    x, y, w, h = box
    image = Image.open(io.BytesIO(data.tobytes())).convert("RGB").crop((x, y, x + w, y + h))
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR))


def crop_ffcv(
    python: str, data: list[np.ndarray], boxes: np.ndarray, extents: np.ndarray, size: int
) -> np.ndarray:
    """Let FFCV cut the same boxes in its own environment: uint8 [N, size, size, 3]."""
    script = Path(__file__).with_name("crop_ffcv.py")
    with tempfile.TemporaryDirectory() as folder:
        given, crops = Path(folder) / "jpegs.npz", Path(folder) / "crops.npy"
        lengths = np.array([len(one) for one in data])
        np.savez(
            given,
            data=np.concatenate(data),
            lengths=lengths,
            boxes=boxes,
            extents=extents,
            size=size,
        )
        subprocess.run([python, str(script), str(given), str(crops)], check=True)
        return np.load(crops)


def compare_crops(folder: Path, ffcv_python: str, size: int) -> dict[str, np.ndarray]:
    """Measure the PSNR of each crop of one packed split, by road; FFCV only where its Python is
    given.
    """
    index = DatasetIndex.open(str(folder))
    ids = np.linspace(0, index.num_samples - 1, min(NUM_IMAGES, index.num_samples)).astype(int)
    rows = index.samples[ids]
    boxes, _ = random_resized_crops(ids, rows["width"], rows["height"], 0, 0, (0.08, 1.0))
    reader, decoder = ShardReader(index), Decoder()
    data = [reader.member(row, 0) for row in rows]
    extents = np.stack([rows["width"], rows["height"]], axis=1).astype(np.int64)
    reference = np.stack(
        [crop_pillow(one, box, size) for one, box in zip(data, boxes.tolist(), strict=True)]
    )
    ours = np.empty_like(reference)
    for out, one, (width, height), box in zip(
        ours, data, extents.tolist(), boxes.tolist(), strict=True
    ):
        decoder.crop_into(out, one, width, height, box, False)
    roads = {"tarmac": psnr(ours, reference)}
    if ffcv_python:
        roads["ffcv jpg"] = psnr(crop_ffcv(ffcv_python, data, boxes, extents, size), reference)
    return roads


def main() -> None:
    """Print a table: the mean and the 5th percentile of each road's PSNR over one packed split."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="packed split, such as data/voc/train")
    parser.add_argument(
        "--ffcv-python", default="", help="the Python of an environment that has FFCV"
    )
    parser.add_argument("--size", type=int, default=224, help="side of the crops in pixels")
    args = parser.parse_args()
    roads = compare_crops(Path(args.data), args.ffcv_python, args.size)
    rows = [
        (name, f"{values.mean():.2f}", f"{np.percentile(values, 5):.2f}")
        for name, values in roads.items()
    ]
    print(table(("crops of", "mean PSNR, dB", "5th percentile, dB"), rows))


if __name__ == "__main__":
    main()
