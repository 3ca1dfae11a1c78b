"""Sides that samples.npy or JPEG have no room for are rejects before anything is written."""

import io
import json

import pytest
from PIL import Image

from preprocess.images.geometry import ImageOptions
from preprocess.images.image import pack_image
from preprocess.images.outcome import BadImage
from preprocess.packing.in_place import examine
from shards.index import DatasetIndex
from tests.conftest import jpeg, photograph
from tests.preprocess.commands import in_place, shard
from tests.preprocess.foreign import png, write_shard

WIDE = png(Image.new("RGB", (70_000, 2), (9, 200, 30)))
TALL = png(Image.new("RGB", (2, 65_536), (9, 200, 30)))


def test_in_place_such_an_image_is_a_reject(tmp_path, monkeypatch, capsys):
    images = {
        "a": png(photograph(40, 30)),
        "b": WIDE,
        "c": TALL,
        "d": png(Image.new("RGB", (65_535, 1))),
    }
    write_shard(
        tmp_path / "in/a.tar",
        [{"__key__": key, "png": data, "cls": 0} for key, data in images.items()],
    )
    args = in_place(tmp_path / "in", tmp_path / "out")
    status, _, errors = shard(monkeypatch, capsys, *args)
    assert (status, errors.count("error:")) == (2, 1)
    assert "2 of 4 images of all were rejected" in errors
    reasons = [
        json.loads(line)["reason"]
        for line in (tmp_path / "out/all/rejected.jsonl").read_text().splitlines()
    ]
    assert "70000 x 2 has a side over 65,535 pixels; --max-side shrinks it" in reasons[0]
    assert "2 x 65536 has a side over 65,535 pixels" in reasons[1]
    assert shard(monkeypatch, capsys, *args, "--max-rejects", "2")[0] == 0
    assert DatasetIndex.open(tmp_path / "out/all").samples["width"].tolist() == [40, 65_535]


@pytest.mark.parametrize("encoding", ["jpg", "png"])
@pytest.mark.parametrize("data", [WIDE, TALL], ids=["wide", "tall"])
def test_packing_needs_a_smaller_size(data, encoding):
    with pytest.raises(BadImage, match=r"has a side over 65500 pixels.*shrink it with --max-side"):
        pack_image(data, ImageOptions(encoding=encoding))
    packed = pack_image(data, ImageOptions(max_side=1000, encoding=encoding))
    assert max(packed.width, packed.height) == 1000


def test_a_jpeg_of_the_largest_side_is_packed_and_served():
    data = jpeg(Image.new("RGB", (65_500, 1), (9, 200, 30)))
    assert pack_image(data, ImageOptions()).width == 65_500
    assert examine(data).width == 65_500
    file = io.BytesIO(WIDE)
    with pytest.raises(BadImage, match="side over 65,535"):
        examine(file.getvalue())
