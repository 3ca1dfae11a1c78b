"""Galleries on paper: a PNG of the highest, and one of the lowest, scoring images of a class, ten
in a row.

Pillow draws them: matplotlib takes ten times as long for rows of images with a line of text each.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from eval.prediction.predictions import Predictions
from eval.report.gallery import Gallery, Shown
from eval.report.report_images import Thumbnails
from shards.pages.palette import PAPER
from shards.pages.spelling import plain

COLUMNS = 10
# Pixels of the PNG.
CELL = 128  # an image
GAP = 14  # between images
CAPTION = 26  # under an image
HEAD = 52  # for the title
TITLE_PIXELS = 22  # heights of text
CAPTION_PIXELS = 17
BACKGROUND = 245  # grey beside an image that is not square
MAX_TITLE = 60  # characters of a class name
MAX_NAME_BYTES = 150  # of a class name in a file's name


def samples_of_grids(class_ids: Sequence[int], galleries: Sequence[Gallery]) -> set[int]:
    """Number the samples that the grids of these classes show."""
    return {
        sample
        for number in class_ids
        for sample, _ in (*galleries[number].highest, *galleries[number].lowest)
    }


def grids(
    predictions: Predictions,
    class_ids: Sequence[int],
    galleries: Sequence[Gallery],
    thumbnails: Thumbnails,
) -> dict[str, bytes]:
    """Return PNGs of the highest and lowest scores of each chosen class, as `top-dog` and
    `bottom-dog`.

    `thumbnails` keeps the pixels of `samples_of_grids`.
    """
    samples = samples_of_grids(class_ids, galleries)
    thumbnails.fetch(samples)
    cells = {sample: _cell(thumbnails.pixels[sample]) for sample in samples}
    file_names = _file_names([predictions.class_names[number] for number in class_ids])
    drawn: dict[str, bytes] = {}
    for number, file_name in zip(class_ids, file_names, strict=True):
        positive = (
            (predictions.labels[:, number] > 0) & predictions.known[:, number].bool()
        ).tolist()
        sides = (
            ("top", "highest", galleries[number].highest, True),
            ("bottom", "lowest", galleries[number].lowest, False),
        )
        for prefix, word, shown, expected in sides:
            wrong = [positive[sample] != expected for sample, _ in shown]
            name = plain(predictions.class_names[number])[:MAX_TITLE]
            side = f"{sum(wrong)} {'without' if expected else 'with'} the class"
            title = f"{name}: the {len(shown)} {word} scores on {predictions.split}, {side}"
            drawn[f"{prefix}-{file_name}"] = draw_grid(shown, wrong, cells, title)
    return drawn


def draw_grid(
    shown: Sequence[Shown], wrong: Sequence[bool], cells: Mapping[int, np.ndarray], title: str
) -> bytes:
    """Draw images with their scores: framed in the first colour, the wrong ones thickly in that of
    what is bad.

    `cells` are uint8 [CELL, CELL, 3].
    """
    rows = max(1, -(-len(shown) // COLUMNS))
    size = (GAP + COLUMNS * (CELL + GAP), HEAD + rows * (CELL + CAPTION + GAP))
    image = Image.new("RGB", size, "white")
    canvas = ImageDraw.Draw(image)
    for place, ((sample, score), is_wrong) in enumerate(zip(shown, wrong, strict=True)):
        x = GAP + place % COLUMNS * (CELL + GAP)
        y = HEAD + place // COLUMNS * (CELL + CAPTION + GAP)
        image.paste(Image.fromarray(cells[sample]), (x, y))
        colour, reach = (PAPER.bad, 3) if is_wrong else (PAPER.first, 1)
        edges = (x - reach, y - reach, x + CELL - 1 + reach, y + CELL - 1 + reach)
        canvas.rectangle(edges, outline=colour, width=2 * reach)
        caption = f"{score:.3f} {'✗' if is_wrong else '✓'}"
        middle = (x + CELL / 2, y + CELL + CAPTION / 2 + 3)
        ink = colour if is_wrong else PAPER.ink
        canvas.text(middle, caption, ink, _font(CAPTION_PIXELS), anchor="mm")
    canvas.text((GAP, HEAD / 2), title, PAPER.ink, _font(TITLE_PIXELS), anchor="lm")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@cache
def _font(pixels: int) -> ImageFont.FreeTypeFont:
    """Load the font of the figures, which matplotlib brings along."""
    return ImageFont.truetype(
        Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), pixels
    )


def _cell(image: np.ndarray) -> np.ndarray:
    """Fit an image uint8 [H, W, 3] into a square of CELL pixels; a small one keeps its pixels as
    blocks.
    """
    height, width = image.shape[:2]
    scale = CELL / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    resized = cv2.resize(
        image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_NEAREST
    )
    cell = np.full((CELL, CELL, 3), BACKGROUND, np.uint8)
    left = (CELL - size[0]) // 2
    top = (CELL - size[1]) // 2
    cell[top : top + size[1], left : left + size[0]] = resized
    return cell


def _file_names(class_names: Iterable[str]) -> list[str]:
    """Spell class names as parts of file names, all different also where case is ignored."""
    found: list[str] = []
    for name in class_names:
        safe = re.sub(r'[\x00-\x1f\x7f/\\:*?"<>|%]', lambda char: f"%{ord(char[0]):02X}", name)
        safe = safe.encode(errors="replace")[:MAX_NAME_BYTES].decode(errors="ignore")
        taken = {other.casefold() for other in found}
        numbered = (
            safe if number == 1 else f"{safe}-{number}" for number in range(1, len(found) + 2)
        )
        found.append(next(name for name in numbered if name.casefold() not in taken))
    return found
