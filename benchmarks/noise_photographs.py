"""Make pictures that cost as much to decode as photographs do, in VOC's layout.

    python benchmarks/noise_photographs.py OUT --num 2000

Noise whose amplitude falls as 1 / frequency, as that of photographs does, 500 x 375 pixels, JPEG of
quality 90: some 80 kB each. Labels are the quadrant in which a bright patch is.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 500, 375
CLASSES = ("top-left", "top-right", "bottom-left", "bottom-right")
VAL_SHARE = 9  # one in nine is for validation


def noise(rng: np.random.Generator) -> np.ndarray:
    """Draw a picture, float32 [HEIGHT, WIDTH, 3], about 0 to 255."""
    across = np.fft.rfftfreq(WIDTH)
    down = np.fft.fftfreq(HEIGHT)[:, None]
    amplitude = 1 / np.maximum(np.hypot(across, down), 1 / WIDTH)
    spectrum = np.fft.rfft2(rng.standard_normal((3, HEIGHT, WIDTH))) * amplitude
    planes = np.fft.irfft2(spectrum, (HEIGHT, WIDTH))
    planes = planes / planes.std((1, 2), keepdims=True)
    # photographs are more alike in their colours than independent planes
    planes[1:] = 0.8 * planes[:1] + 0.6 * planes[1:]
    return (128 + 50 * planes).transpose(1, 2, 0)


def main() -> None:
    """Write the pictures and the lists of their splits."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--num", type=int, default=2000)
    args = parser.parse_args()
    lists = args.out / "ImageSets" / "Main"
    images = args.out / "JPEGImages"
    for folder in (lists, images):
        folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    keys: dict[str, list[tuple[str, int]]] = {"train": [], "val": []}
    for number in range(args.num):
        label = number % len(CLASSES)
        pixels = noise(rng)
        row, column = divmod(label, 2)
        half = pixels[row * HEIGHT // 2 :, column * WIDTH // 2 :]
        half[60:120, 60:120] += 90
        key = f"{number:06d}"
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(images / f"{key}.jpg", quality=90)
        keys["val" if number % VAL_SHARE == VAL_SHARE - 1 else "train"].append((key, label))
    for split, of_split in keys.items():
        (lists / f"{split}.txt").write_text("".join(f"{key}\n" for key, _ in of_split))
        for label, name in enumerate(CLASSES):
            lines = (f"{key} {1 if own == label else -1}\n" for key, own in of_split)
            (lists / f"{name}_{split}.txt").write_text("".join(lines))


if __name__ == "__main__":
    main()
