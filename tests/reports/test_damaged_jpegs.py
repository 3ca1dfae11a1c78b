"""JPEGs that have lost pixels are named and rejected everywhere; harmless faults cost nothing."""

import io
import json
import struct

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageFile

from eval.predict import main as predict_main
from preprocess.images.geometry import ImageOptions
from preprocess.images.image import decode_image, pack_image
from preprocess.images.image_check import what_is_wrong
from preprocess.images.outcome import DAMAGED, DamagedImage
from preprocess.packing.pool import open_pool
from preprocess.verifying.verification import verify_split
from shards.commandline import run
from shards.dataset import ShardDataset
from shards.errors import DamagedError
from shards.index import DatasetIndex
from shards.scans.damage import clean, decode_whole
from tests.conftest import jpeg, photograph
from tests.eval.prediction.test_prediction import make_run
from tests.preprocess.commands import in_place, shard
from tests.preprocess.foreign import write_shard
from tests.preprocess.jpeg.test_progressive import not_interleaved, segments

EOI = b"\xff\xd9"
IMAGE = photograph(150, 101, 3)
PLAIN = jpeg(IMAGE, quality=85)
PROGRESSIVE = jpeg(IMAGE, quality=85, progressive=True)
RESTARTS = jpeg(IMAGE, quality=85, restart_marker_rows=1)
CMYK = jpeg(IMAGE.convert("CMYK"), quality=85)
GREY = jpeg(IMAGE.convert("L"), quality=85)


def scan_of(data: bytes) -> int:
    at = 2
    while data[at + 1] != 0xDA:
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")


def half(data: bytes) -> bytes:
    return data[: (scan_of(data) + len(data)) // 2]


def zeros(data: bytes) -> bytes:
    at = (scan_of(data) + len(data)) // 2
    return data[:at] + bytes(400) + data[at + 400 :]


def without(data: bytes, num_bytes: int) -> bytes:
    at = (scan_of(data) + len(data)) // 2
    return data[:at] + data[at + num_bytes :]


def without_restart(data: bytes) -> bytes:
    at = data.index(b"\xff\xd2", scan_of(data))
    return data[:at] + data[at + 2 :]


def cut_at_a_restart(data: bytes) -> bytes:
    return data[: data.index(b"\xff\xd3", scan_of(data))] + EOI


def joined(parts: list[bytes]) -> bytes:
    return b"\xff\xd8" + b"".join(parts) + EOI


def lacking_scans(data: bytes, last: int) -> bytes:
    parts = segments(data)
    return joined(parts[: [n for n, part in enumerate(parts) if part[1] == 0xDA][last]])


DAMAGES = {
    "half": half(PLAIN),
    "half, EOI": half(PLAIN) + EOI,
    "zeros": zeros(PLAIN),
    "bytes removed": without(PLAIN, 500),
    "restart marker removed": without_restart(RESTARTS),
    "cut at a restart": cut_at_a_restart(RESTARTS),
    "progressive, half, EOI": half(PROGRESSIVE) + EOI,
    "progressive, its last scan half": PROGRESSIVE[: len(PROGRESSIVE) - 300] + EOI,
    "progressive, the first scan only": lacking_scans(PROGRESSIVE, 1),
    "progressive, without the last scan": lacking_scans(PROGRESSIVE, -1),
    "colour without its scan": lacking_scans(not_interleaved(60, 40, [(1, 1)] * 3, quality=80), 2),
    "CMYK, half, EOI": half(CMYK) + EOI,
    "grey, half, EOI": half(GREY) + EOI,
}

EXIF = Image.Exif()
EXIF[0x010E] = "a thumbnail's maker"


def with_thumbnail(data: bytes) -> bytes:
    """Put a small JPEG, itself cut off, into a segment of metadata."""
    inner = half(jpeg(photograph(30, 20)))
    return (
        data[:2]
        + b"\xff\xe1"
        + struct.pack(">H", 2 + 6 + len(inner))
        + b"Exif\0\0"
        + inner
        + data[2:]
    )


def two_pictures() -> bytes:
    file = io.BytesIO()
    IMAGE.save(file, "MPO", save_all=True, append_images=[photograph(150, 101, 4)], quality=85)
    return file.getvalue()


SOS = PLAIN.index(b"\xff\xda")
HARMLESS = {
    "bytes before SOS": PLAIN[:SOS] + b"some bytes" + PLAIN[SOS:],
    "bytes before EOI": PLAIN[:-2] + bytes(900) + EOI,
    "text before EOI": PLAIN[:-2] + b"written by a camera" * 40 + EOI,
    "garbage after EOI": PLAIN + bytes(range(256)) * 3,
    "another JPEG after EOI": PLAIN + half(GREY),
    "no EOI": PLAIN[:-2],
    "half an EOI": PLAIN[:-1],
    "progressive, no EOI": PROGRESSIVE[:-2],
    "fill bytes": PLAIN[:SOS] + b"\xff\xff\xff" + PLAIN[SOS:-2] + b"\xff\xff" + EOI,
    "Adobe of an unknown transform": PLAIN[:2]
    + b"\xff\xee\0\x0eAdobe\0\x64\0\0\0\0\x07"
    + PLAIN[2:],
    "damaged EXIF": jpeg(IMAGE, quality=85, exif=b"Exif\0\0II*\0\xff\xff\xff\xffrubbish"),
    "damaged ICC": jpeg(IMAGE, quality=85, icc_profile=b"no profile" * 300),
    "EXIF": jpeg(IMAGE, quality=85, exif=EXIF),
    "thumbnail": with_thumbnail(PLAIN),
    "MPO": two_pictures(),
}
PACKED = [ImageOptions(), ImageOptions(encoding="png"), ImageOptions(short_side=40)]


def test_pillow_is_never_told_to_load_what_is_truncated():
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize("options", PACKED, ids=["jpg", "png", "resized"])
@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_jpeg_is_refused_in_one_line_or_packed_and_named(name, options):
    with pytest.raises(DamagedImage, match=f"^{DAMAGED}") as caught:
        pack_image(DAMAGES[name], options)
    assert "\n" not in str(caught.value)
    packed = pack_image(DAMAGES[name], options, accept_damaged=True)
    assert packed.damage == str(caught.value)
    encoded = np.frombuffer(packed.images[options.encoding], np.uint8)
    assert what_is_wrong(encoded, options.encoding, packed.width, packed.height) is None


@pytest.mark.parametrize("name", DAMAGES)
def test_prediction_refuses_it_for_the_same_reason(name):
    with pytest.raises(DamagedImage) as packing:
        pack_image(DAMAGES[name], ImageOptions())
    with pytest.raises(DamagedImage) as predicting:
        decode_image(DAMAGES[name])
    assert str(predicting.value) == str(packing.value)
    assert decode_image(DAMAGES[name], accept_damaged=True).ndim == 3


@pytest.mark.parametrize("options", PACKED, ids=["jpg", "png", "resized"])
@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_faults_stay_harmless(name, options):
    data = HARMLESS[name]
    packed = pack_image(data, options)
    assert packed.damage == ""
    if options.encoding == "png":
        expected = decode_image(PROGRESSIVE if name.startswith("progressive") else PLAIN)
        np.testing.assert_array_equal(decode_image(data), expected)
        np.testing.assert_array_equal(decode_image(packed.images["png"]), expected)


@pytest.mark.parametrize("kind", ["baseline", "progressive", "restarts"])
def test_what_libjpeg_warns_of_is_refused_and_nothing_else(kind):
    """Over cuts, zeros, flips and bytes inserted: the verdict is that of libjpeg's warnings."""
    whole = {"baseline": PLAIN, "progressive": PROGRESSIVE, "restarts": RESTARTS}[kind]
    rng, num_damaged = np.random.default_rng(5), 0
    for case in range(60):
        data, at = bytearray(whole), int(rng.integers(scan_of(whole) + 5, len(whole) - 40))
        if case % 4 == 0:
            del data[at : at + int(rng.choice([1, 20, 300]))]
        elif case % 4 == 1:
            data[at : at + 30] = bytes(30)
        elif case % 4 == 2:
            data[at] ^= 1 << int(rng.integers(8))
        else:
            data[at:at] = rng.bytes(int(rng.choice([1, 20])))
        try:
            simplejpeg.decode_jpeg(bytes(data), "RGB", strict=True)
            warns = False
        except ValueError:
            warns = True
        try:
            decode_whole(bytes(data), "RGB")
            refused = False
        except DamagedError:
            refused = True
        assert refused == warns, case
        num_damaged += refused
    assert 10 < num_damaged < 60


@pytest.fixture
def folder(tmp_path):
    """Four photographs of two classes, two of them damaged."""
    for name, data in {"a/good.jpg": PLAIN, "a/half.jpg": DAMAGES["half, EOI"], "b/zeros.jpg": DAMAGES["zeros"],
                       "b/no end.jpg": HARMLESS["no EOI"]}.items():  # fmt: skip
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).write_bytes(data)
    return tmp_path / "in"


def listed(path) -> set[str]:
    return (
        {json.loads(line)["source"] for line in path.read_text().splitlines()}
        if path.exists()
        else set()
    )


def test_packing_lists_the_damaged_and_the_flag_packs_them(folder, tmp_path, monkeypatch, capsys):
    args = ["--source", "imagefolder", "--root", str(folder), "--out", str(tmp_path / "out")]
    status, _, errors = shard(monkeypatch, capsys, *args)
    assert (status, errors.count("error:")) == (2, 1)
    assert "2 of 4 images of all were rejected" in errors
    assert "--max-rejects 2, or with --accept-damaged (2 of them)" in errors
    assert listed(tmp_path / "out/all/rejected.jsonl") == {"a/half.jpg", "b/zeros.jpg"}
    status, out, errors = shard(monkeypatch, capsys, *args, "--accept-damaged")
    assert status == 0, errors
    assert "4 samples in 1 shard" in out
    assert "0 images rejected, 2 damaged images accepted" in out
    assert listed(tmp_path / "out/all/rejected.jsonl") == set()
    assert listed(tmp_path / "out/all/accepted.jsonl") == {"a/half.jpg", "b/zeros.jpg"}
    with open_pool(1) as pool:
        assert verify_split(tmp_path / "out/all", pool).findings == []
        (tmp_path / "out/all/accepted.jsonl").write_text("{}\n")
        (finding,) = verify_split(tmp_path / "out/all", pool).findings
    assert "accepted.jsonl: does not list what index.json lists as accepted" in finding.line()
    status, out, errors = shard(monkeypatch, capsys, *args, "--max-rejects", "2")
    assert (status, "2 samples in 1 shard" in out, "2 images rejected (" in out) == (
        0,
        True,
        True,
    ), errors
    assert listed(tmp_path / "out/all/accepted.jsonl") == set()
    status, out, _ = shard(monkeypatch, capsys, *args, "--max-rejects", "2", "--accept-damaged")
    assert (status, "4 samples" in out) == (0, True)


def test_in_place_refuses_the_damaged_and_serves_the_harmless(tmp_path, monkeypatch, capsys):
    damaged = {name: data for name, data in DAMAGES.items() if not name.startswith("CMYK")}
    harmless = {name: data for name, data in HARMLESS.items() if name != "bytes before SOS"}
    images = {
        f"{number:03d}": data for number, data in enumerate([*damaged.values(), *harmless.values()])
    }
    # readers look for every segment right after the one before
    images["999"] = HARMLESS["bytes before SOS"]
    write_shard(
        tmp_path / "in/a.tar",
        [{"__key__": key, "jpg": data, "cls": 0} for key, data in images.items()],
    )
    args = in_place(tmp_path / "in", tmp_path / "out")
    status, _, errors = shard(monkeypatch, capsys, *args, "--max-rejects", str(len(damaged) + 1))
    assert status == 0, errors
    lines = [
        json.loads(line) for line in (tmp_path / "out/all/rejected.jsonl").read_text().splitlines()
    ]
    assert "pack these shards without --in-place" in lines.pop()["reason"]
    assert [line["source"].removesuffix(".jpg") for line in lines] == [
        f"a.tar/{n:03d}" for n in range(len(damaged))
    ]
    assert all(line["reason"].startswith(DAMAGED) for line in lines)
    dataset = ShardDataset(DatasetIndex.open(tmp_path / "out/all"))
    assert len(dataset) == len(harmless)
    for number, data in enumerate(harmless.values()):
        np.testing.assert_array_equal(dataset[number][0], decode_image(data))
    with open_pool(1) as pool:
        assert verify_split(tmp_path / "out/all", pool).findings == []
    status, _, errors = shard(monkeypatch, capsys, *args, "--accept-damaged")
    assert (status, errors.count("\n")) == (2, 1)
    assert "--accept-damaged packs damaged JPEGs again, --in-place packs none" in errors


def test_predict_names_the_damaged_and_scores_them_only_where_asked(
    folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    ckpt = make_run(tmp_path / "run", tmp_path, model="test_resnet", classes=("cat", "dog", "cow"))

    def predict(*more: str) -> tuple[int, list[str], str]:
        args = [
            "predict",
            "--ckpt",
            str(ckpt),
            "--csv",
            str(tmp_path / "s.csv"),
            *more,
            str(folder),
        ]
        monkeypatch.setattr("sys.argv", args)
        status = 0
        try:
            run(predict_main)
        except SystemExit as leaving:
            status = int(leaving.code or 0)
        out, err = capsys.readouterr()
        assert len((tmp_path / "s.csv").read_text().splitlines()) == 1 + len(out.splitlines())
        return status, out.splitlines(), err

    status, out, err = predict()
    assert (status, len(out)) == (2, 2)
    assert f"half.jpg: {DAMAGED}its scan is truncated, after " in err
    assert "2 of 4 pictures cannot be read, as named above" in err
    status, out, err = predict("--accept-damaged")
    assert (status, len(out)) == (0, 4)
    assert f"half.jpg: predicted, but {DAMAGED}its scan is truncated, after " in err
    assert "2 of 4 pictures are damaged, as named above" in err


@pytest.mark.timeout(60)
def test_a_long_run_of_ff_takes_no_longer_than_other_bytes():
    """As on a flash disk that lost its pages: it took the square of its length, 40 kB 10 s."""
    filled = PLAIN[:2] + b"\xff" * 150_000 + b"\0" + PLAIN[2:]
    assert clean(filled) == clean(PLAIN)
    np.testing.assert_array_equal(decode_whole(filled, "RGB"), decode_whole(PLAIN, "RGB"))


def test_no_real_photograph_is_called_damaged(voc2012_root):
    paths = sorted((voc2012_root / "JPEGImages").glob("*.jpg"))[::10]
    assert len(paths) > 100
    for path in paths:
        decode_whole(path.read_bytes(), "RGB")
