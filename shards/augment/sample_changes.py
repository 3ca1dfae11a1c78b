"""What augmentation does to each sample of a batch: numbers drawn by (seed, epoch, sample), and no
pixels.

TrivialAugment and colour jitter draw as torchvision's TrivialAugmentWide and timm's --color-jitter
do, erasing as torchvision's RandomErasing. All numbers are whole, in units of 2^-16 or 2^-24, and
so is the arithmetic on pixels (shards.augment.pixel_ops on a CPU, shards.augment.tensor_ops on a
device): the same bits on every processor.
"""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from shards.augment.hashing import hash3, uniform
from shards.errors import DataError
from shards.host.compiled import compiled

# Operations on pixels, by number. The tables of the first ones are known without the pixels, those
# of the next ones are not; then come those that look at more than one value at a time.
BRIGHTNESS = 1
POSTERIZE = 2
SOLARIZE = 3
CONTRAST = 4
AUTOCONTRAST = 5
EQUALIZE = 6
SATURATION = 7
SHARPNESS = 8
HUE = 9
NOTHING = 0
LAST_PLAIN_TABLE = SOLARIZE
LAST_TABLE = EQUALIZE

ONE = 1 << 16  # of factors
TURN = 6 * ONE  # of hues
MAP_BITS = 24  # of maps between pixels
UNIT = 1 << MAP_BITS

BINS = 31  # strengths of TrivialAugment
MOVES = ("shear x", "shear y", "translate x", "translate y", "rotate")
COLOURS = (BRIGHTNESS, SATURATION, CONTRAST, SHARPNESS)
OTHERS = (POSTERIZE, SOLARIZE, AUTOCONTRAST, EQUALIZE)
NUM_OPERATIONS = 1 + len(MOVES) + len(COLOURS) + len(OTHERS)  # the first does nothing

ATTEMPTS = 10  # of erasing, as torchvision's
AREA = (0.02, 0.33)
RATIO = (0.3, 3.3)

# Each purpose draws from numbers of its own.
_TRIVIAL = 0x54524941
_JITTER = 0x4A495454
_ERASE = 0x45524153
_DIHEDRAL = 0x44344434


@dataclass(frozen=True)
class BatchAugmentation:
    """What is done to training images when they are on the device, as the options of training say.

    `color_jitter`: brightness, contrast and saturation by factors from 1 - x to 1 + x;
    `hue_jitter`: hues by up to this share of a turn; `trivial_augment`: one operation of 14, of
    any strength; `dihedral`: one of the 8 symmetries of a square; `erasing`: the share of images
    that lose a rectangle.
    """

    color_jitter: float = 0.0
    hue_jitter: float = 0.0
    trivial_augment: bool = False
    dihedral: bool = False
    erasing: float = 0.0

    @property
    def is_on(self) -> bool:
        """Tell whether anything is done."""
        return self != BatchAugmentation()

    @property
    def moves(self) -> bool:
        """Tell whether pixels change their places."""
        return self.trivial_augment or self.dihedral


@dataclass(frozen=True, eq=False)
class Changes:
    """What happens to B samples, in this order.

    maps     int64 [B, 6] or [0, 6]: a pixel (x, y) comes from column (a x + b y + c) / 2^24 and row
             (d x + e y + f) / 2^24, rounded; it is black where that is outside
    codes    int64 [S, B]: the operations of S rounds
    amounts  int64 [S, B]: how much; of blends the factor less 1, in 2^-16; of hues 2^-16 of a sixth
             of a turn; of posterize the mask; of solarize twice the threshold
    boxes    int64 [B, 4] or [0, 4]: left, top, right and bottom of what is erased
    """

    maps: np.ndarray
    codes: np.ndarray
    amounts: np.ndarray
    boxes: np.ndarray


def draw_changes(
    options: BatchAugmentation, ids: np.ndarray, seed: int, epoch: int, height: int, width: int
) -> Changes:
    """Draw for images of `height` x `width` pixels: each sample's part is a pure function of (seed,
    epoch, id).
    """
    ids = np.asarray(ids, np.int64)
    maps = np.empty((0, 6), np.int64)
    codes: list[np.ndarray] = []
    amounts: list[np.ndarray] = []
    if options.trivial_augment:
        maps, code, amount = _trivial(_uniforms(ids, seed, epoch, _TRIVIAL, 3), height, width)
        codes.append(code)
        amounts.append(amount)
    elif options.color_jitter or options.hue_jitter:
        codes, amounts = _jitter(options, _uniforms(ids, seed, epoch, _JITTER, 4))
    if options.dihedral:
        if height != width:
            raise DataError(
                f"images are {width} x {height} pixels: dihedral augmentation needs square ones"
            )
        which = (8 * _uniforms(ids, seed, epoch, _DIHEDRAL, 1)[:, 0]).astype(np.int64)
        symmetries = _symmetries(width)[which]
        maps = composed(symmetries, maps) if len(maps) else symmetries
    boxes = np.empty((0, 4), np.int64)
    if options.erasing:
        boxes = _erased(ids, seed, epoch, height, width, options.erasing)
    rounds = (len(codes), len(ids))
    return Changes(
        maps,
        np.array(codes, np.int64).reshape(rounds),
        np.array(amounts, np.int64).reshape(rounds),
        boxes,
    )


def composed(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Join maps [B, 6] and [B, 6]: a pixel goes through `inner`, then through `outer`, whose linear
    part is whole.
    """
    whole = np.rint(outer.reshape(-1, 2, 3)[:, :, :2] / UNIT).astype(np.int64)
    joined = whole @ inner.reshape(-1, 2, 3)
    joined[:, :, 2] += outer.reshape(-1, 2, 3)[:, :, 2]
    return joined.reshape(-1, 6)


@compiled(nogil=True)
def _uniforms(ids: np.ndarray, seed: int, epoch: int, purpose: int, num: int) -> np.ndarray:
    """Draw float64 [B, num], uniform in [0, 1)."""
    out = np.empty((len(ids), num))
    for i in range(len(ids)):
        key = hash3(np.uint64(seed) ^ np.uint64(purpose), np.uint64(epoch), np.uint64(ids[i]))
        for number in range(num):
            out[i, number] = uniform(key, number)
    return out


def _jitter(
    options: BatchAugmentation, draws: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Change brightness, contrast, saturation and hue, in this order; torchvision draws the order
    too, which a batch at a time would cost four times the work.
    """
    codes = []
    amounts = []
    spread = 2 * draws.T - 1
    for number, code in enumerate((BRIGHTNESS, CONTRAST, SATURATION) * (options.color_jitter > 0)):
        codes.append(np.full(len(draws), code))
        amounts.append(np.rint(ONE * options.color_jitter * spread[number]).astype(np.int64))
    if options.hue_jitter:
        codes.append(np.full(len(draws), HUE))
        amounts.append(np.rint(TURN * options.hue_jitter * spread[3]).astype(np.int64) % TURN)
    return codes, amounts


def _trivial(
    draws: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Turn uniforms [B, 3] into the maps, codes and amounts of TrivialAugment."""
    operation = (NUM_OPERATIONS * draws[:, 0]).astype(np.int64)
    strength = (BINS * draws[:, 1]).astype(np.int64)
    negative = (draws[:, 2] < 0.5).astype(np.int64)
    maps, codes, amounts = _trivial_tables(height, width)
    at = operation, strength, negative
    return maps[at], codes[operation], amounts[at]


@cache
def _trivial_tables(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """List maps [14, 31, 2, 6], codes [14] and amounts [14, 31, 2] by operation, strength and
    sign.
    """
    shape = (NUM_OPERATIONS, BINS, 2)
    maps = np.zeros((*shape, 6), np.int64)
    maps[..., 0] = maps[..., 4] = UNIT
    amounts = np.zeros(shape, np.int64)
    codes = np.array([NOTHING] * (1 + len(MOVES)) + [*COLOURS, *OTHERS], np.int64)
    for strength in range(BINS):
        for negative in range(2):
            at = strength, negative
            signed = -strength if negative else strength
            for number, move in enumerate(MOVES, start=1):
                maps[number, *at] = move_map(move, signed, height, width)
            for number, code in enumerate(codes):
                amounts[number, *at] = _amount(int(code), strength, signed)
    return maps, codes, amounts


def _amount(code: int, strength: int, signed: int) -> int:
    """Spell the strength of an operation from 0 to 30, as TrivialAugmentWide does."""
    if code in COLOURS:
        return round(ONE * 0.033 * signed)
    if code == POSTERIZE:
        return posterize_mask(8 - round(strength / 5))
    return 510 - 17 * strength if code == SOLARIZE else 0


def posterize_mask(bits: int) -> int:
    """Return the mask that keeps so many high bits."""
    return 256 - (1 << (8 - bits))


def move_map(move: str, signed: float, height: int, width: int) -> tuple[int, ...]:
    """Make the map of a move; `signed` is its strength from -30 to 30."""
    share = 0.033 * signed
    pixels = int(signed * 32 / 30)
    if move == "shear x":
        return _map((1.0, share, share / 2), (0.0, 1.0, 0.0))
    if move == "shear y":
        return _map((1.0, 0.0, 0.0), (share, 1.0, share / 2))
    if move == "translate x":
        return _map((1.0, 0.0, -pixels), (0.0, 1.0, 0.0))
    if move == "translate y":
        return _map((1.0, 0.0, 0.0), (0.0, 1.0, -pixels))
    return rotation_map(4.5 * signed, height, width)


def rotation_map(degrees: float, height: int, width: int) -> tuple[int, ...]:
    """Make the map of a rotation around the middle, counter-clockwise."""
    cos = round(UNIT * math.cos(math.radians(degrees)))
    sin = round(UNIT * math.sin(math.radians(degrees)))
    # Twice the middle is a whole number. The sums are even, or lose half of 2^-24 of a pixel.
    across = width - 1
    down = height - 1
    return (
        cos,
        -sin,
        (UNIT * across - cos * across + sin * down) // 2,
        sin,
        cos,
        (UNIT * down - sin * across - cos * down) // 2,
    )


def _map(across: tuple[float, ...], down: tuple[float, ...]) -> tuple[int, ...]:
    return tuple(round(UNIT * value) for value in (*across, *down))


@cache
def _symmetries(size: int) -> np.ndarray:
    """List the maps of the 8 symmetries of a square, int64 [8, 6]: the first is the image as it is,
    the next ones mirror its columns, its rows and both; then the same of its transpose.
    """
    maps = []
    for swaps in (False, True):
        for down in (False, True):
            for across in (False, True):
                first = (-1 if across else 1, 0, (size - 1) * across)
                second = (0, -1 if down else 1, (size - 1) * down)
                maps.append((*second, *first) if swaps else (*first, *second))
    return UNIT * np.array(maps, np.int64)


@compiled(nogil=True)
def _erased(
    ids: np.ndarray, seed: int, epoch: int, height: int, width: int, share: float
) -> np.ndarray:
    """Draw rectangles int64 [B, 4], empty where nothing is erased."""
    out = np.zeros((len(ids), 4), np.int64)
    low = math.log(RATIO[0])
    high = math.log(RATIO[1])
    for i in range(len(ids)):
        key = hash3(np.uint64(seed) ^ np.uint64(_ERASE), np.uint64(epoch), np.uint64(ids[i]))
        if uniform(key, 0) >= share:
            continue
        for attempt in range(ATTEMPTS):
            draw = 1 + 4 * attempt
            area = height * width * (AREA[0] + (AREA[1] - AREA[0]) * uniform(key, draw))
            ratio = math.exp(low + (high - low) * uniform(key, draw + 1))
            h = round(math.sqrt(area * ratio))
            w = round(math.sqrt(area / ratio))
            if h < height and w < width:
                out[i, 0] = int(uniform(key, draw + 2) * (width - w + 1))
                out[i, 1] = int(uniform(key, draw + 3) * (height - h + 1))
                out[i, 2] = out[i, 0] + w
                out[i, 3] = out[i, 1] + h
                break
    return out
