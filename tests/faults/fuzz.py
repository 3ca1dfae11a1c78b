"""Hostile and odd input, many thousands of cases: `python -m tests.faults.fuzz` prints what was tried.

Every target takes a generator and tries one case; what it returns is counted, and whatever it raises is a bug. Cases
are pure functions of target, seed and number.
"""

import argparse
import io
import json
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import Image

from preprocess.geometry import ImageOptions, tile_interval
from preprocess.image import BadImage, pack_image
from preprocess.image_check import what_is_wrong
from preprocess.keys import MAX_KEY_CHARS, sample_key
from preprocess.record import Record
from preprocess.retile import retile
from preprocess.voc import VOC
from preprocess.written import read_written
from shards.dataset import ShardDataset
from shards.decode import Decoder
from shards.errors import DataError, FormatError, SampleError
from shards.index import DatasetIndex
from shards.jpeg import MISMATCH, cut_tiles
from tests.conftest import jpeg, pack, photograph

WIDTH, HEIGHT = 96, 80
NUM_ODD_BYTES = 40
CHARACTERS = "aZ0_-. %~/\\äß語\u202e\t'\"\x00\n"


def mutated(rng: np.random.Generator, data: bytes, header_bytes: int) -> bytes:
    """Change up to four bytes, more often in the header; cut off, repeat or insert something now and then."""
    out = bytearray(data)
    for _ in range(rng.integers(0, 5)):
        at = int(rng.integers(0, min(header_bytes, len(out)) if rng.random() < 0.6 else len(out)))
        out[at] = int(rng.choice([0, 0xFF, 0xDA, 0xC4, 0xC0, out[at] ^ (1 << int(rng.integers(8))), rng.integers(256)]))
    kind = rng.random()
    at = int(rng.integers(0, len(out) + 1))
    if kind < 0.1:
        return bytes(out[:at])
    if kind < 0.15:
        return bytes(out[:at] + rng.bytes(int(rng.integers(1, NUM_ODD_BYTES))) + out[at:])
    if kind < 0.2:
        return bytes(out[:at] + out[max(0, at - NUM_ODD_BYTES) :])
    return bytes(out)


@cache
def tiled(subsampling: int) -> bytes:
    data = retile(jpeg(photograph(WIDTH, HEIGHT), quality=85, subsampling=subsampling), tile_interval)
    assert data is not None
    return data


@cache
def encoded(kind: str) -> bytes:
    image, file = photograph(WIDTH, HEIGHT), io.BytesIO()
    if kind == "progressive":
        return jpeg(image, quality=85, progressive=True)
    if kind == "png":
        image.save(file, "PNG")
        return file.getvalue()
    return jpeg(image, quality=85, subsampling=int(kind))


def splicer(rng: np.random.Generator) -> str:
    """Cut a box out of a damaged JPEG: what is accepted has the pixels that decoding all of it has there."""
    data = np.frombuffer(mutated(rng, tiled(int(rng.integers(3))), 700), np.uint8)
    w, h = int(rng.integers(1, WIDTH + 1)), int(rng.integers(1, HEIGHT + 1))
    x, y = int(rng.integers(0, WIDTH - w + 1)), int(rng.integers(0, HEIGHT - h + 1))
    out = np.full(len(data) + 2 + 64, 171, np.uint8)
    size = cut_tiles(data, WIDTH, HEIGHT, x, y, w, h, out[: len(data) + 2])[0]
    assert MISMATCH <= size <= len(data) + 2
    assert (out[len(data) + 2 :] == 171).all(), "written beyond the end"
    try:
        box = Decoder().box(data, WIDTH, HEIGHT, (x, y, w, h))
    except SampleError:
        return "refused"
    try:
        whole = simplejpeg.decode_jpeg(data, "RGB", strict=True)[y : y + h, x : x + w]
    except ValueError:
        return "decoded though damaged elsewhere"
    return "the pixels of the whole" if np.array_equal(box, whole) else "other pixels than the whole"


def decoder(rng: np.random.Generator) -> str:
    """Decode and resize a damaged JPEG with the tile decoder, then the ordinary way."""
    data = np.frombuffer(mutated(rng, tiled(int(rng.integers(3))), 700), np.uint8)
    w, h = int(rng.integers(1, WIDTH + 1)), int(rng.integers(1, HEIGHT + 1))
    box = (int(rng.integers(0, WIDTH - w + 1)), int(rng.integers(0, HEIGHT - h + 1)), w, h)
    out = np.zeros((32, 32, 3), np.uint8)
    decoder = _decoder()
    if not decoder.crop_tiles_into(out, data, WIDTH, HEIGHT, box, False):
        try:
            decoder.crop_into(out, data, WIDTH, HEIGHT, box, False)
        except SampleError:
            return "refused"
        return "decoded the ordinary way"
    pixels = decoder.box(data, WIDTH, HEIGHT, box)  # raises where libjpeg warns: nothing is accepted that it refuses
    expected = Image.fromarray(np.ascontiguousarray(pixels)).resize((32, 32), Image.Resampling.BILINEAR)
    if np.abs(np.asarray(expected).astype(int) - out).mean() < 2.5:
        return "the pixels of libjpeg"
    assert ((pixels == 0) | (pixels == 255)).any(), "other pixels, though nothing is clamped"
    return "wild coefficients, clamped"


@cache
def _decoder() -> Decoder:
    return Decoder()


def retiler(rng: np.random.Generator) -> str:
    """Rewrite a damaged JPEG, baseline or progressive: refused, or the same pixels."""
    kind = ("0", "1", "2", "progressive")[int(rng.integers(4))]
    data = mutated(rng, encoded(kind), 700)
    rewritten = retile(data, tile_interval)
    if rewritten is None:
        return "refused"
    pixels = simplejpeg.decode_jpeg(rewritten, "RGB", strict=True)  # what we write is never damaged
    try:
        before = simplejpeg.decode_jpeg(data, "RGB", strict=True)
    except ValueError:
        return "rewritten though libjpeg warns"
    return "the same pixels" if np.array_equal(pixels, before) else "other pixels"


def packer(rng: np.random.Generator) -> str:
    """Pack a damaged image: rejected with one line, or whole afterwards."""
    kind = ("2", "progressive", "png")[int(rng.integers(3))]
    try:
        packed = pack_image(mutated(rng, encoded(kind), 100), ImageOptions())
    except BadImage as error:
        if "\n" in str(error):
            raise AssertionError("a reason of several lines") from error
        return "rejected"
    data = np.frombuffer(packed.images["jpg"], np.uint8)
    assert what_is_wrong(data, "jpg", packed.width, packed.height) is None
    return "packed whole"


def png(rng: np.random.Generator) -> str:
    """Read a damaged PNG member; half of them with checksums that are right again, as who means harm makes them."""
    data = mutated(rng, encoded("png"), 60)
    if rng.random() < 0.5:
        data = _right_checksums(data)
    whole = np.frombuffer(data, np.uint8)
    try:
        pixels = _decoder().box(whole, WIDTH, HEIGHT, (3, 5, 20, 30))
    except SampleError:
        return "refused"
    assert pixels.shape == (30, 20, 3)
    wrong = what_is_wrong(whole, "png", WIDTH, HEIGHT)
    return "read" if wrong is None else "read though damaged"


def _right_checksums(data: bytes) -> bytes:
    out, at = bytearray(data), 8
    while at + 12 <= len(out):
        end = at + 8 + int.from_bytes(out[at : at + 4], "big")
        if end + 4 > len(out):
            break
        out[end : end + 4] = zlib.crc32(out[at + 4 : end]).to_bytes(4, "big")
        at = end + 4
    return bytes(out)


@cache
def split() -> Path:
    """A split of four samples; its index and samples.npy are exchanged for each case."""
    root = Path(tempfile.mkdtemp(prefix="tarmac-fuzz-")) / "train"
    root.parent.mkdir(exist_ok=True)
    records = []
    for number in range(4):
        path = root.parent / f"{number}.jpg"
        path.write_bytes(jpeg(photograph(40, 30, number)))
        records.append(Record(f"s{number}", path, path.name, (number,), ()))
    pack(records, root, shard_samples=2)
    return root


@cache
def whole(name: str) -> bytes:
    return (split() / name).read_bytes()


def _opened(name: str, data: bytes) -> str:
    """Open the split with another file in it, and read all of what it says is there."""
    path = split() / name
    path.write_bytes(data)
    try:
        read_written(split())  # what verify reads: tells, never raises
        index = DatasetIndex.open(split())
        dataset = ShardDataset(index)
        index.keys(), index.labels(), index.known()
        for number in range(index.num_samples):
            dataset[number]
    except FormatError:
        return "refused at opening"
    except SampleError:
        return "refused at the sample"
    finally:
        path.write_bytes(whole(name))
    return "read"


def index_json(rng: np.random.Generator) -> str:
    """Open a split whose index.json has other values or bytes."""
    if rng.random() < 0.4:
        return _opened("index.json", mutated(rng, whole("index.json"), 4000))
    described = json.loads(whole("index.json"))
    odd = [None, -1, 0, 1 << 70, 1.5, "", "../x", [], {}, [1], ["a"], True, "x" * 300, {"a": 1}]
    place = described
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = keys[int(rng.integers(len(keys)))]
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.7:
            place = place[key]
            continue
        if rng.random() < 0.2:
            del place[key]
        else:
            place[key] = odd[int(rng.integers(len(odd)))]
        return _opened("index.json", json.dumps(described).encode())


def samples_npy(rng: np.random.Generator) -> str:
    """Open a split whose samples.npy has another header or other rows."""
    return _opened("samples.npy", mutated(rng, whole("samples.npy"), 500))


@cache
def voc() -> Path:
    root = Path(tempfile.mkdtemp(prefix="tarmac-fuzz-"))
    for name in ("JPEGImages", "ImageSets/Main", "Annotations"):
        (root / name).mkdir(parents=True)
    for name in ("a", "b c", "ü.x", "n" * 200):
        (root / "JPEGImages" / f"{name}.jpg").write_bytes(b"")
    return root


def voc_lists(rng: np.random.Generator) -> str:
    """Read lists with any line ends, blanks, tabs, doubles and names."""
    names = ["a", "n" * 200, "ü.x", "b c", "..", "a/b", "\ufeffa", "a" * 300, ""]
    ends, gaps = ["\n", "\r\n", "\r", "\n\n", " \n", "\t\n"], [" ", "\t", "  ", ""]

    def pick(values: list[str]) -> str:
        return values[int(rng.integers(len(values)))]

    ids = [pick(names if rng.random() < 0.3 else names[:3]) for _ in range(rng.integers(0, 4))]
    main = voc() / "ImageSets" / "Main"
    (main / "val.txt").write_bytes("".join(name + pick(ends) for name in ids).encode(errors="surrogatepass"))
    text = "".join(name + pick(gaps) + pick(["1", "0", "-1", "-1", "2", ""]) + pick(ends) for name in ids)
    (main / "cat_val.txt").write_bytes(mutated(rng, text.encode() + b"\n", 50) if rng.random() < 0.3 else text.encode())
    return _records()


def voc_xml(rng: np.random.Generator) -> str:
    """Read annotations, damaged ones and those that would expand or fetch something."""
    hostile = [
        '<!DOCTYPE a [<!ENTITY b "bbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]>',
        '<!DOCTYPE a SYSTEM "file:///etc/passwd">',
        '<?xml version="1.0" encoding="utf-16"?>',
        "",
        "",
    ]
    text = hostile[int(rng.integers(len(hostile)))] + (
        "<annotation><object><name>cat</name><difficult>0</difficult></object>"
        "<object><name>&#x64;og</name></object></annotation>"
    )
    data = text.encode("utf-16" if rng.random() < 0.1 else "utf-8")
    main = voc() / "ImageSets" / "Main"
    (main / "val.txt").write_text("a\n")
    (main / "cat_val.txt").unlink(missing_ok=True)
    (voc() / "Annotations" / "a.xml").write_bytes(mutated(rng, data, 300))
    return _records()


def _records() -> str:
    try:
        records = VOC(voc()).records("val")
    except DataError as error:
        if "\n" in str(error):
            raise AssertionError("a message of several lines") from error
        return "refused"
    root = (voc() / "JPEGImages").resolve()
    assert all(record.path.resolve().parent == root for record in records), "a path out of the folder"
    return "read"


def keys(rng: np.random.Generator) -> str:
    """Make keys of any names: short, safe, and different for different names."""
    length = int(rng.choice([1, 2, 5, 40, 64, 65, 300]))
    name = "".join(CHARACTERS[i] for i in rng.integers(0, len(CHARACTERS), length))
    at = int(rng.integers(length))
    other = name[:at] + ("b" if name[at] != "b" else "c") + name[at + 1 :]
    key = sample_key(name)
    assert 0 < len(key) <= MAX_KEY_CHARS
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-%~")
    assert key != sample_key(other)
    return "hashed" if "~" in key else "escaped" if "%" in key else "as it is"


TARGETS: dict[str, tuple[Callable[[np.random.Generator], str], float]] = {  # and its share of the cases
    "tile splicer": (splicer, 0.2),
    "tile decoder": (decoder, 0.2),
    "retile, progressive": (retiler, 0.1),
    "packing": (packer, 0.05),
    "PNG members": (png, 0.05),
    "index.json": (index_json, 0.08),
    "samples.npy": (samples_npy, 0.08),
    "VOC lists": (voc_lists, 0.08),
    "VOC XML": (voc_xml, 0.06),
    "keys of names": (keys, 0.1),
}


def fuzz(target: str, num_cases: int, seed: int = 0) -> tuple[Counter[str], list[str]]:
    """Try cases of one target: how they ended, and those that are bugs."""
    try_one, ends, bugs = TARGETS[target][0], Counter[str](), []
    for number in range(num_cases):
        rng = np.random.default_rng([zlib.crc32(target.encode()), seed, number])
        try:
            ends[try_one(rng)] += 1
        except Exception as error:
            bugs.append(f"seed {seed}, case {number}: {error!r}")
    return ends, bugs


def main() -> None:
    """Print a row for each target, `target | tried | lost`; leave with status 1 where there was a bug."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fiftieth of the cases")
    parser.add_argument("--seed", type=int, default=0, help="which cases")
    parser.add_argument("--cases", type=int, default=100_000, help="how many, of all targets together")
    given = parser.parse_args()
    lost = False
    for target, (_, share) in TARGETS.items():
        num_cases = int(given.cases * share / (50 if given.quick else 1))
        ends, bugs = fuzz(target, num_cases, given.seed)
        told = ", ".join(f"{number:,} {end}" for end, number in ends.most_common())
        print(f"fuzz: {target} | {num_cases:,} cases: {told} | {'; '.join(bugs[:3]) or 'nothing'}", flush=True)
        lost |= bool(bugs)
    raise SystemExit(lost)


if __name__ == "__main__":
    main()
