"""Galleries on paper: a PNG of the highest, and one of the lowest, scoring images of a class, ten in a row."""

import re
from collections.abc import Iterable, Mapping, Sequence

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from eval.gallery import Gallery, Shown
from eval.predictions import Predictions
from eval.thumbnails import Thumbnail, fetch
from shards.figures import PAPER, PNG_DPI, Palette, png
from shards.spelling import plain

COLUMNS = 10
CELL, GAP, CAPTION, HEAD = 128, 14, 26, 52  # pixels of the PNG: an image, between images, under one, the title
BACKGROUND = 245  # grey beside an image that is not square
MAX_TITLE = 60  # characters of a class name
MAX_NAME_BYTES = 150  # of a class name in a file's name


def grids(
    predictions: Predictions, class_ids: Sequence[int], galleries: Sequence[Gallery], thumbnail: Thumbnail
) -> dict[str, bytes]:
    """Return PNGs of the highest and lowest scores of each chosen class, as `top-dog` and `bottom-dog`."""
    samples = {sample for number in class_ids for sample, _ in (*galleries[number].highest, *galleries[number].lowest)}
    cells, _ = fetch(thumbnail, samples, _cell, "image grids")
    file_names = _file_names([predictions.class_names[number] for number in class_ids])
    drawn: dict[str, bytes] = {}
    for number, file_name in zip(class_ids, file_names, strict=True):
        positive = ((predictions.labels[:, number] > 0) & predictions.known[:, number].bool()).tolist()
        sides = (
            ("top", "highest", galleries[number].highest, True),
            ("bottom", "lowest", galleries[number].lowest, False),
        )
        for prefix, word, shown, expected in sides:
            wrong = [positive[sample] != expected for sample, _ in shown]
            name = plain(predictions.class_names[number])[:MAX_TITLE]
            side = f"{sum(wrong)} {'without' if expected else 'with'} the class"
            title = f"{name}: the {len(shown)} {word} scores on {predictions.split}, {side}"
            drawn[f"{prefix}-{file_name}"] = png(draw_grid(shown, wrong, cells, title, PAPER))
    return drawn


def draw_grid(
    shown: Sequence[Shown], wrong: Sequence[bool], cells: Mapping[int, np.ndarray], title: str, palette: Palette
) -> Figure:
    """Draw images with their scores: framed in the first colour, the wrong ones thickly in that of what is bad.

    `cells` are uint8 [CELL, CELL, 3]; a pixel of them is one of the PNG.
    """
    rows = max(1, -(-len(shown) // COLUMNS))
    width, height = GAP + COLUMNS * (CELL + GAP), HEAD + rows * (CELL + CAPTION + GAP)
    figure = Figure(figsize=(width / PNG_DPI, height / PNG_DPI))
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    canvas = np.full((height, width, 3), 255, np.uint8)
    for place, ((sample, score), is_wrong) in enumerate(zip(shown, wrong, strict=True)):
        x, y = GAP + place % COLUMNS * (CELL + GAP), HEAD + place // COLUMNS * (CELL + CAPTION + GAP)
        canvas[y : y + CELL, x : x + CELL] = cells[sample]
        colour, line = (palette.bad, 2.4) if is_wrong else (palette.first, 0.8)
        axes.add_patch(Rectangle((x, y), CELL, CELL, fill=False, edgecolor=colour, linewidth=line))
        caption = f"{score:.3f} {'✗' if is_wrong else '✓'}"
        axes.text(x + CELL / 2, y + CELL + CAPTION / 2 + 3, caption, color=colour if is_wrong else palette.ink,
                  fontsize=6.2, ha="center", va="center")  # fmt: skip
    axes.imshow(canvas, extent=(0, width, height, 0), interpolation="none")
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.text(GAP, HEAD / 2, title, color=palette.ink, fontsize=8, va="center", parse_math=False)
    return figure


def _cell(image: np.ndarray) -> np.ndarray:
    """Fit an image uint8 [H, W, 3] into a square of CELL pixels; a small one keeps its pixels as blocks."""
    height, width = image.shape[:2]
    scale = CELL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST)
    cell = np.full((CELL, CELL, 3), BACKGROUND, np.uint8)
    left, top = (CELL - size[0]) // 2, (CELL - size[1]) // 2
    cell[top : top + size[1], left : left + size[0]] = resized
    return cell


def _file_names(class_names: Iterable[str]) -> list[str]:
    """Spell class names as parts of file names, all different also where case is not told apart."""
    found: list[str] = []
    for name in class_names:
        safe = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|%]', lambda char: f"%{ord(char[0]):02X}", name)
        safe = safe.encode(errors="replace")[:MAX_NAME_BYTES].decode(errors="ignore")
        taken = {other.casefold() for other in found}
        numbered = (safe if number == 1 else f"{safe}-{number}" for number in range(1, len(found) + 2))
        found.append(next(name for name in numbered if name.casefold() not in taken))
    return found
