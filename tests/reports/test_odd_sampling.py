"""JPEGs of every sampling of colour: right pixels or one clear reject, never a traceback."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from preprocess.images.geometry import ImageOptions
from preprocess.images.image import decode_image, pack_image
from preprocess.images.image_check import what_is_wrong
from preprocess.images.outcome import BadImage
from preprocess.packing.pool import open_pool
from preprocess.verifying.verification import verify_split
from shards.dataset import ShardDataset
from shards.index import DatasetIndex
from tests.preprocess.commands import in_place, shard
from tests.preprocess.foreign import write_shard
from tests.preprocess.jpeg.test_progressive import not_interleaved

FACTORS = {
    "4:4:4": [(1, 1), (1, 1), (1, 1)],
    "4:2:2": [(2, 1), (1, 1), (1, 1)],
    "4:2:0": [(2, 2), (1, 1), (1, 1)],
    "4:4:0": [(1, 2), (1, 1), (1, 1)],
    "4:1:1": [(4, 1), (1, 1), (1, 1)],
    "4:4:1": [(1, 4), (1, 1), (1, 1)],
    "4:1:0": [(4, 2), (1, 1), (1, 1)],
    "2x4": [(2, 4), (1, 1), (1, 1)],
    "3x1": [(3, 1), (1, 1), (1, 1)],
    "1x3": [(1, 3), (1, 1), (1, 1)],
    "4x4": [(4, 4), (1, 1), (1, 1)],
    "one chroma of half height": [(2, 2), (1, 2), (1, 1)],
    "chroma finer than luma": [(1, 1), (2, 2), (2, 2)],
    "2x1 everywhere": [(2, 1), (2, 1), (2, 1)],
    "2x2 everywhere": [(2, 2), (2, 2), (2, 2)],
    "no divisor": [(3, 1), (2, 1), (1, 1)],
}
JPEGS = {name: not_interleaved(101, 67, factors, quality=85) for name, factors in FACTORS.items()}


def expected_pixels(data: bytes) -> np.ndarray | None:
    try:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except OSError:
        return None  # libjpeg refuses it


@pytest.mark.parametrize("name", FACTORS)
def test_packing_and_prediction_see_libjpegs_pixels(name):
    data, expected = JPEGS[name], expected_pixels(JPEGS[name])
    if expected is None:
        for function in (decode_image, lambda data: pack_image(data, ImageOptions())):
            with pytest.raises(BadImage):
                function(data)
        return
    np.testing.assert_array_equal(decode_image(data), expected)
    lossless = pack_image(data, ImageOptions(encoding="png")).images["png"]
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(lossless))), expected)
    packed = pack_image(data, ImageOptions(quality=95))
    stored = np.frombuffer(packed.images["jpg"], np.uint8)
    assert what_is_wrong(stored, "jpg", 101, 67) is None
    assert np.abs(decode_image(packed.images["jpg"]).astype(int) - expected).mean() < 12


@pytest.mark.parametrize("cut", [False, True])
def test_in_place_and_verify(tmp_path, monkeypatch, capsys, cut):
    images = {
        f"{number:02d}": data[: len(data) * 3 // 4] if cut else data
        for number, data in enumerate(JPEGS.values())
    }
    write_shard(
        tmp_path / "in/a.tar",
        [{"__key__": key, "jpg": data, "cls": 0} for key, data in images.items()],
    )
    args = in_place(tmp_path / "in", tmp_path / "out")
    status, _, errors = shard(monkeypatch, capsys, *args, "--max-rejects", "99")
    assert "Traceback" not in errors
    lines = [
        json.loads(line) for line in (tmp_path / "out/all/rejected.jsonl").read_text().splitlines()
    ]
    if cut:
        assert (status, len(lines)) == (2, len(images))
        return
    assert status == 0
    # 4:4:1 is one that readers decode
    assert {"a.tar/05.jpg"} & {line["source"] for line in lines} == set()
    assert all("sampled in a way that readers do not know" in line["reason"] for line in lines[:-1])
    dataset = ShardDataset(DatasetIndex.open(tmp_path / "out/all"))
    assert len(dataset) + len(lines) == len(images)
    for number in range(len(dataset)):
        pixels, *_, key = dataset[number]
        np.testing.assert_array_equal(pixels, expected_pixels(images[key]))
    with open_pool(1) as pool:
        assert verify_split(tmp_path / "out/all", pool).findings == []


def test_packed_sets_of_them_are_intact(tmp_path, monkeypatch, capsys):
    for name, data in JPEGS.items():
        path = tmp_path / "in/a" / f"{name.replace(':', '-')}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    args = [
        "--source",
        "imagefolder",
        "--root",
        str(tmp_path / "in"),
        "--out",
        str(tmp_path / "out"),
    ]
    status, _, errors = shard(monkeypatch, capsys, *args, "--max-rejects", "1")
    assert status == 0, errors
    with open_pool(1) as pool:
        assert verify_split(tmp_path / "out/all", pool).findings == []
