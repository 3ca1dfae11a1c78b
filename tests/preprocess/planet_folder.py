"""Make a folder in the layout of Planet's rainforest competition: `python -m
tests.preprocess.planet_folder ROOT`.

Each tag leaves a mark in the pixels. Those of NIR_ONLY leave it in the near infrared alone, so a
network that sees four bands can tell what one of three cannot. Values are near those of real
scenes: the forest lies within a few percent of 16 bits, clouds are several times as bright.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
import tifffile
from PIL import Image

from preprocess.sources.planet import TAGS

# one an image; under clouds nothing else is seen
WEATHER = ("clear", "partly_cloudy", "haze", "cloudy")
NIR_ONLY = ("blooming", "cultivation", "selective_logging")
FOREST = np.array([4400.0, 3700.0, 2400.0, 6200.0])  # blue, green, red, near infrared
OTHERS = [tag for tag in TAGS if tag not in (*WEATHER, "primary")]
# What a mark adds to the four bands, and its shape.
MARKS = {
    "agriculture": ((300, 900, 900, 900), "field"),
    "artisinal_mine": ((900, 700, 1900, -900), "pond"),
    "bare_ground": ((300, 700, 1500, -1200), "pond"),
    "blooming": ((0, 0, 0, 2600), "spots"),
    "blow_down": ((-500, -500, -100, 900), "stripes"),
    "conventional_mine": ((1600, 1600, 1700, -1600), "field"),
    "cultivation": ((0, 0, 0, 2600), "field"),
    "habitation": ((2200, 2000, 2100, -400), "spots"),
    "road": ((1500, 1500, 1700, -500), "line"),
    "selective_logging": ((0, 0, 0, -2600), "spots"),
    "slash_burn": ((-900, -900, -500, -2400), "field"),
    "water": ((300, -300, -700, -4200), "river"),
}


def _smooth(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Noise of about 0 +- 1 with `cells` bumps across: float32 [size, size]."""
    return cv2.resize(
        rng.standard_normal((cells, cells)).astype(np.float32),
        (size, size),
        interpolation=cv2.INTER_CUBIC,
    )


def _shape(rng: np.random.Generator, size: int, kind: str) -> np.ndarray:
    """Draw the mask of a mark: float32 [size, size], 0 to 1."""
    mask = np.zeros((size, size), np.float32)

    def place() -> list[int]:
        return rng.integers(size // 8, size - size // 8, 2).tolist()

    if kind == "field":
        box = cv2.boxPoints(
            (
                place(),
                (size * rng.uniform(0.3, 0.5), size * rng.uniform(0.3, 0.5)),
                rng.uniform(0, 90),
            )
        )
        cv2.fillPoly(mask, [box.astype(np.int32)], 1.0)
    elif kind == "pond":
        cv2.ellipse(mask, place(), (size // 4, size // 6), rng.uniform(0, 180), 0, 360, 1.0, -1)
    elif kind == "spots":
        for _ in range(14):
            cv2.circle(mask, place(), max(1, size // 24), 1.0, -1)
    elif kind == "stripes":
        for offset in range(0, size, max(4, size // 8)):
            cv2.line(mask, (offset, 0), (offset + size // 6, size), 1.0, max(1, size // 32))
    else:
        start, end = (0, int(rng.integers(size))), (size, int(rng.integers(size)))
        cv2.line(mask, start, end, 1.0, max(1, size // (10 if kind == "river" else 40)))
    return mask


def scene(rng: np.random.Generator, tags: set[str], size: int) -> np.ndarray:
    """Draw an image with these tags: uint16 [size, size, 4] of blue, green, red, near infrared."""
    marks, rng = rng.spawn(2)  # a mark more changes no other noise
    pixels = np.empty((size, size, 4), np.float32)
    pixels[:] = FOREST if "primary" in tags else FOREST * (1.05, 1.1, 1.35, 0.8)
    texture = 0.6 * _smooth(rng, size, max(4, size // 3)) + 0.4 * _smooth(rng, size, 6)
    pixels *= 1 + (0.05 if "primary" in tags else 0.02) * texture[..., None]
    for tag in OTHERS:
        if tag in tags:
            added, kind = MARKS[tag]
            pixels += (
                _shape(marks, size, kind)[..., None]
                * np.float32(added)
                * np.float32(marks.uniform(0.8, 1.2))
            )
    if "haze" in tags:
        pixels = 0.5 * pixels + np.float32([3600, 3300, 2700, 3000])
    if "cloudy" in tags or "partly_cloudy" in tags:
        cover = _smooth(rng, size, 4) + (4 if "cloudy" in tags else -0.4)
        pixels += np.clip(cover, 0, 1)[..., None] * np.float32([9000, 8500, 8000, 7000])
    pixels += rng.normal(0, 25, pixels.shape)
    return np.clip(pixels * rng.normal(1, 0.02), 0, 65535).astype(np.uint16)


def draw_tags(rng: np.random.Generator) -> list[str]:
    """Draw an image's tags: a weather, and unless it is cloudy the forest, usually, and what is in
    it.
    """
    weather = str(rng.choice(WEATHER, p=[0.55, 0.2, 0.17, 0.08]))
    if weather == "cloudy":
        return [weather]
    shown = [tag for tag in OTHERS if rng.random() < (0.3 if tag in NIR_ONLY else 0.15)]
    return [*shown, weather, *(["primary"] if rng.random() < 0.85 else [])]


def write_planet(
    root: Path, num: int = 600, size: int = 96, seed: int = 0, kind: str = "tif"
) -> list[list[str]]:
    """Write train_v2.csv and `num` images of `size` pixels, in train-tif-v2 or train-jpg; return
    the tags of each.
    """
    folder = root / ("train-tif-v2" if kind == "tif" else "train-jpg")
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    all_tags = []
    for number in range(num):
        tags = draw_tags(rng)
        pixels = scene(rng, set(tags), size)
        # as the real ones are: four samples a pixel, the fourth an alpha by its headers
        if kind == "tif":
            path = folder / f"train_{number}.tif"
            tifffile.imwrite(
                path, pixels, photometric="rgb", extrasamples=["assocalpha"], planarconfig="contig"
            )
        else:
            eight = np.clip((pixels[..., 2::-1].astype(np.float32) - 1500) / 18, 0, 255).astype(
                np.uint8
            )
            Image.fromarray(eight).save(folder / f"train_{number}.jpg", quality=92)
        all_tags.append(tags)
    lines = [f"train_{number},{' '.join(tags)}\n" for number, tags in enumerate(all_tags)]
    (root / "train_v2.csv").write_text("".join(["image_name,tags\n", *lines]))
    return all_tags


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("root", type=Path, help="folder to make")
    parser.add_argument("--num", type=int, default=600, help="images")
    parser.add_argument("--size", type=int, default=96, help="pixels, width and height")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=["tif", "jpg"], default="tif")
    args = parser.parse_args()
    write_planet(args.root, args.num, args.size, args.seed, args.kind)


if __name__ == "__main__":
    main()
