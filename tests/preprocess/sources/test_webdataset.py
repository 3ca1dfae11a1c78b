"""Source webdataset: the same samples and labels as the webdataset package reads, and tars that are
wrong.
"""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset

import preprocess.sources.webdataset
from preprocess.record import Record
from preprocess.sources.foreign_tar import read_samples
from preprocess.sources.webdataset import WebDataset
from shards.disk.writer import read_rows
from shards.errors import DataError, FormatError
from shards.index import DatasetIndex
from tests.preprocess.commands import shard
from tests.preprocess.foreign import NAMES, drawn_labels, sample, write_shard


def by_webdataset(root: Path) -> list[dict]:
    urls = sorted(str(path) for path in root.glob("**/*.tar"))
    return list(webdataset.WebDataset(urls, shardshuffle=False))


def the_image(theirs: dict) -> bytes:
    return next(theirs[suffix] for suffix in ("jpg", "jpeg", "png") if suffix in theirs)


@pytest.mark.parametrize("suffix", ["jpg", "jpeg", "png", "JPG"])
def test_cls_reads_as_the_package_reads_it(tmp_path, suffix):
    kind = suffix.lower()
    for number in range(3):
        samples = [sample(n, kind) for n in range(5 * number, 5 * number + 5)]
        if suffix == "JPG":
            samples = [
                {("JPG" if key == "jpg" else key): value for key, value in s.items()}
                for s in samples
            ]
            add_by_hand(tmp_path / f"{number:06d}.tar", samples)
        else:
            write_shard(tmp_path / f"{number:06d}.tar", samples)
    source, theirs = WebDataset(tmp_path), by_webdataset(tmp_path)
    records = source.records("all")
    assert (source.splits(), source.task, source.class_names) == (
        ("all",),
        "multiclass",
        ("0", "1", "2"),
    )
    assert [record.name for record in records] == [item["__key__"] for item in theirs]
    assert [record.read() for record in records] == [the_image(item) for item in theirs]
    assert [record.labels for record in records] == [(int(item["cls"]),) for item in theirs]


def test_own_shards_keep_their_ignored_labels(tmp_path, monkeypatch, capsys):
    """Packed shards are tars of other samples to this source, such as for packing them smaller."""
    said = [([2, 0], [3]), ([], [1, 3]), ([1], []), ([0, 2], [])]
    members = [
        {"__key__": f"{n}", "jpg": sample(n)["jpg"], "json": {"labels": shown, "ignored": unsure}}
        for n, (shown, unsure) in enumerate(said)
    ]
    write_shard(tmp_path / "in/train-000000.tar", members)
    (tmp_path / "in/classes.txt").write_text("\n".join((*NAMES, "elk")))
    source = WebDataset(tmp_path / "in", class_list="classes.txt")
    found = [(list(record.labels), list(record.ignored)) for record in source.records("train")]
    assert found == [(sorted(shown), unsure) for shown, unsure in said]
    assert "ignored: members .json, key 'ignored', a list of classes each" in source.describe()
    out = tmp_path / "out"
    args = ["--source", "webdataset", "--root", str(tmp_path / "in"), "--class-list", "classes.txt"]
    status, _, errors = shard(monkeypatch, capsys, *args, "--out", str(out), "--order", "source")
    assert status == 0, errors
    known = DatasetIndex.open(out / "train").known()
    assert [np.flatnonzero(~row).tolist() for row in known] == [unsure for _, unsure in said]
    beyond = {"__key__": "x", "jpg": sample(1)["jpg"], "json": {"labels": [0], "ignored": [4]}}
    write_shard(tmp_path / "in/train-000001.tar", [beyond])
    source = WebDataset(tmp_path / "in", class_list="classes.txt")
    with pytest.raises(DataError, match="4 is not one of the 4 classes"):
        source.records("train")


def test_ignored_numbers_beside_names_are_refused(tmp_path):
    said = [(["cat"], []), ([], [0])]
    members = [
        {"__key__": f"{n}", "jpg": sample(n)["jpg"], "json": {"labels": shown, "ignored": unsure}}
        for n, (shown, unsure) in enumerate(said)
    ]
    write_shard(tmp_path / "train-000000.tar", members)
    with pytest.raises(DataError, match="some labels are numbers, others names"):
        WebDataset(tmp_path)


def test_what_others_call_ignored_is_left_alone(tmp_path):
    values = [["cat"], [True], 3, None, [0.5], "yes"]
    members = [
        {"__key__": f"{n}", "jpg": sample(n)["jpg"], "json": {"labels": [n % 2], "ignored": value}}
        for n, value in enumerate(values)
    ]
    write_shard(tmp_path / "train-000000.tar", members)
    source = WebDataset(tmp_path)
    assert {record.ignored for record in source.records("train")} == {()}
    assert not any(line.startswith("ignored") for line in source.describe())
    for item in members:
        item["json"] = {"tags": ["cat", "dog"], "ignored": [1]}
    write_shard(tmp_path / "train-000000.tar", members)
    source = WebDataset(tmp_path, label_field="tags")
    assert {record.ignored for record in source.records("train")} == {()}


def add_by_hand(path: Path, samples: list[dict], **header) -> Path:
    """Write any members in any order, with a header of one's own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for item in samples:
            for suffix, content in item.items():
                if suffix != "__key__":
                    add(
                        tar,
                        f"{item['__key__']}.{suffix}" if "__key__" in item else suffix,
                        content,
                        **header,
                    )
    return path


def add(tar: tarfile.TarFile, name: str, content: object, **header) -> None:
    data = content if isinstance(content, bytes) else str(content).encode()
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in header.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))


def test_json_labels_packed_equal_the_package(tmp_path, monkeypatch, capsys):
    for split, start in (("train", 0), ("val", 20)):
        numbers = range(start, start + 20)
        half = [
            [sample(n, json={"labels": drawn_labels(n), "note": "x"}) for n in numbers[i : i + 10]]
            for i in (0, 10)
        ]
        for number, samples in enumerate(half):
            write_shard(tmp_path / "wds" / f"photos-{split}-{number:04d}.tar", samples)
    (tmp_path / "wds/classes.txt").write_text("".join(f"{name}\n" for name in NAMES))
    args = [
        "--source",
        "webdataset",
        "--root",
        str(tmp_path / "wds"),
        "--out",
        str(tmp_path / "out"),
    ]
    status, _, errors = shard(monkeypatch, capsys, *args, "--class-list", "classes.txt")
    assert status == 0, errors
    theirs = {
        item["__key__"]: json.loads(item["json"])["labels"]
        for item in by_webdataset(tmp_path / "wds")
    }
    for split in ("train", "val"):
        index = DatasetIndex.open(tmp_path / "out" / split)
        assert (index.num_samples, index.class_names, index.task) == (20, NAMES, "multilabel")
        for key, row in zip(index.keys(), index.labels(), strict=True):
            assert np.flatnonzero(row).tolist() == theirs[key]


@pytest.mark.parametrize(
    ("more", "options", "task", "names", "labels"),
    [
        ({"cls": 1}, {}, "multiclass", ("0", "1"), (1,)),
        ({"cls": b"zebra\n"}, {}, "multiclass", ("zebra",), (0,)),
        ({"txt": "zebra"}, {"label_member": "txt"}, "multiclass", ("zebra",), (0,)),
        ({"json": {"labels": 1}}, {}, "multiclass", ("0", "1"), (1,)),
        ({"json": {"labels": ["dog", "cat"]}}, {}, "multilabel", ("cat", "dog"), (0, 1)),
        (
            {"json": {"labels": ["dog", "dog"]}},
            {"class_list": "names.txt"},
            "multilabel",
            NAMES,
            (1,),
        ),
        ({"json": [1, 2]}, {}, "multilabel", ("0", "1", "2"), (1, 2)),
        ({"json": {"tags": [0], "labels": 7}}, {"label_field": "tags"}, "multilabel", ("0",), (0,)),
        ({"cls": 7, "json": {"labels": [0]}}, {"label_member": "json"}, "multilabel", ("0",), (0,)),
        ({"cls": 1, "json": {"labels": [0]}}, {}, "multiclass", ("0", "1"), (1,)),
        ({"meta.json": {"labels": [0]}}, {"label_member": "meta.json"}, "multilabel", ("0",), (0,)),
    ],
)
def test_forms_of_labels(tmp_path, more, options, task, names, labels):
    write_shard(tmp_path / "a.tar", [sample(0, **more)])
    (tmp_path / "names.txt").write_text("\ufeffcat\r\ndog\r\nzebra\r\n", encoding="utf-8")
    source = WebDataset(tmp_path, **options)
    assert (source.task, source.class_names) == (task, names)
    assert [record.labels for record in source.records("all")] == [labels]


def test_splits_by_folder_by_name_and_of_a_single_tar(tmp_path):
    write_shard(tmp_path / "a/train/000.tar", [sample(0)])
    write_shard(tmp_path / "a/validation/000.tar", [sample(1)])
    assert WebDataset(tmp_path / "a").splits() == ("train", "val")
    write_shard(tmp_path / "b/imagenet-val-000-of-002.tar", [sample(0)])
    write_shard(tmp_path / "b/imagenet-train-000-of-002.tar", [sample(1)])
    assert WebDataset(tmp_path / "b").splits() == ("train", "val")
    assert WebDataset(tmp_path / "b/imagenet-val-000-of-002.tar").splits() == ("val",)
    write_shard(tmp_path / "b/extra.tar", [sample(2)])
    with pytest.raises(
        DataError, match=r"extra\.tar: its name says no split, others say train, val"
    ):
        WebDataset(tmp_path / "b")
    write_shard(tmp_path / "a/000.tar", [sample(2)])
    with pytest.raises(DataError, match="beside folders of shards"):
        WebDataset(tmp_path / "a")


def test_keys_that_start_anew_in_every_shard(tmp_path):
    write_shard(tmp_path / "0.tar", [sample(0), sample(1)])
    write_shard(tmp_path / "1.tar", [sample(0), sample(2)])
    names = [record.name for record in WebDataset(tmp_path).records("all")]
    assert names == ["0.tar/photo0000", "photo0001", "1.tar/photo0000", "photo0002"]


def test_folders_meta_and_hidden_members_are_passed_over_as_the_package_does(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        add(tar, "photos", b"", type=tarfile.DIRTYPE)
        add(tar, "__index__", b"{}")
        for number in range(3):
            item = sample(number)
            add(tar, f"photos/._{number}.jpg", b"what a Mac leaves behind")
            add(tar, f"photos/{number}.jpg", item["jpg"])
            add(tar, f"photos/{number}.cls", item["cls"])
    # the package takes `._0.jpg` for a sample
    theirs = [item for item in by_webdataset(tmp_path) if "cls" in item]
    ours = list(read_samples(path, lambda suffix: suffix == "cls"))
    assert [item.key for item in ours] == [item["__key__"] for item in theirs]
    assert [item.texts["cls"] for item in ours] == [item["cls"] for item in theirs]


GOOD = sample(0)


@pytest.mark.parametrize(
    ("samples", "header", "says"),
    [
        ([{"../a.jpg": b"", "../a.cls": 0}], {}, "'../a.jpg' leads out of the archive"),
        ([{"/etc/a.jpg": b""}], {}, "'/etc/a.jpg' leads out of the archive"),
        ([{"a/../../b.jpg": b""}], {}, "leads out of the archive"),
        ([{"a.jpg": b""}], {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "a.jpg is a link, a device or sparse"),
        ([{"a.jpg": b""}], {"type": tarfile.LNKTYPE, "linkname": "b.jpg"}, "a.jpg is a link, a device or sparse"),
        ([{"a.jpg": b""}], {"type": tarfile.FIFOTYPE}, "a.jpg is a link, a device or sparse"),
        ([{"a.jpg": b"", "a.JPG": b"", "a.cls": 0}], {}, "a.JPG: sample 'a' has a member of this name already"),
        ([{"a.jpg": b"", "b.jpg": b"", "a.cls": 0}], {}, "give --label-member, or add it next to the image"),
        ([{"a.jpg": b"", "a.cls": 0, "b.jpg": b"", "b.cls": 1, "a.txt": b""}], {}, "'a' are not next to each other"),
        ([{"a.cls": 0}], {}, "sample a has no .jpg, .jpeg, .png; it has .cls"),
        ([{"a.jpg": b"", "a.png": b"", "a.cls": 0}], {}, "sample a has jpg and png; it has .jpg, .png, .cls"),
        ([{"a.jpg": b""}], {}, "sample a has no .cls or .json, it has .jpg; give --label-member"),
        ([{"a.jpg": b"", "a.cls": "two words\nmore"}], {}, "sample a.cls holds 'two words\\nmore', not one class"),
        ([{"a.jpg": b"", "a.cls": b"\xff\xfe"}], {}, "sample a.cls is no text"),
        ([{"a.jpg": b"", "a.cls": -1}], {}, "sample a.cls: label -1 is no class number"),
        ([{"a.jpg": b"", "a.cls": 10**12}], {}, "label 1000000000000 is no class number; use 0 to 99,999"),
        ([{"a.jpg": b"", "a.json": b"{"}], {}, "sample a.json is not JSON"),
        ([{"a.jpg": b"", "a.json": b"[" * 100_000}], {}, "sample a.json is not JSON"),
        ([{"a.jpg": b"", "a.json": b'{"tags": [1]}'}], {}, "sample a.json has no key 'labels', it has 'tags'"),
        ([{"a.jpg": b"", "a.json": b'{"labels": [1.5]}'}], {}, "a.json: [1.5] is a vector, a place per class"),
        ([{"a.jpg": b"", "a.json": b'{"labels": {"x": 1}}'}], {}, "is neither a whole number nor a name"),
        ([{"a.jpg": b"", "a.json": b'{"labels": [0, 0, 1, 0]}'}], {}, "a.json: [0, 0, 1, 0] has a number twice"),
        ([{"a.jpg": b"", "a.json": b'{"labels": [7, 7]}'}], {}, "a list holds class numbers, not a vector of 0 and 1"),
        ([{"a.jpg": b"", "a.json": b'{"labels": [1]}', "b.jpg": b"", "b.json": b"3"}], {}, "before it are multilabel"),
        ([{"a.jpg": b"", "a.cls": 1, "b.jpg": b"", "b.cls": "cat"}], {}, "some labels are numbers, others names"),
        ([{"a.jpg": b"", "a.json": b'{"labels": []}'}], {}, "no sample has a label"),
    ],
    ids=lambda value: value[:50] if isinstance(value, str) else "",
)  # fmt: skip
def test_a_tar_that_is_wrong_gets_one_line(tmp_path, samples, header, says):
    add_by_hand(tmp_path / "shard.tar", samples, **header)
    with pytest.raises(DataError) as caught:
        WebDataset(tmp_path)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert says.startswith(("some labels", "no sample")) or "shard.tar" in str(caught.value)


def damaged(data: bytearray, how: str) -> bytes:
    if how == "cut in an image":
        with tarfile.open(fileobj=io.BytesIO(bytes(data))) as tar:
            return bytes(data[: tar.getmembers()[3].offset_data + 100])
    if how == "cut to nothing":
        return b""
    if how == "cut after a header":
        return bytes(data[:512])
    if how == "flipped header":
        with tarfile.open(fileobj=io.BytesIO(bytes(data))) as tar:
            data[tar.getmembers()[2].offset + 3] ^= 0xFF
        return bytes(data)
    if how == "gzip":
        import gzip

        return gzip.compress(bytes(data))
    return b"hello, this is no tar at all" * 40


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("cut in an image", "is cut off by the end of the file"),
        ("cut after a header", "it is no intact tar"),
        ("cut to nothing", "it is no intact tar"),
        ("flipped header", "no header at byte"),
        ("gzip", "it is compressed: decompress it"),
        ("text", "it is no intact tar"),
    ],
)
def test_damage_is_never_taken_for_the_end(tmp_path, how, says):
    path = write_shard(tmp_path / "shard.tar", [sample(n) for n in range(3)])
    path.write_bytes(damaged(bytearray(path.read_bytes()), how))
    with pytest.raises(DataError) as caught:
        WebDataset(tmp_path)
    assert says in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_options_that_do_not_fit(tmp_path):
    def says(**options) -> str:
        with pytest.raises(DataError) as caught:
            read(tmp_path, **options)
        return str(caught.value)

    write_shard(tmp_path / "shard.tar", [sample(n) for n in range(3)])
    (tmp_path / "two.txt").write_text("cat\ndog\n")
    assert "--label-field is of JSON members" in says(label_field="labels")
    assert "has no .json, it has .cls, .jpg" in says(label_member="json")
    assert "has no .webp; it has .cls, .jpg" in says(image_member="webp")
    assert "sample photo0002: 2 is not one of the 2 classes of two.txt" in says(
        class_list="two.txt"
    )
    assert "--class-list: path '../two.txt' is no path inside" in says(class_list="../two.txt")
    assert "none.txt cannot be read" in says(class_list="none.txt")
    (tmp_path / "empty.txt").write_text("\n \n")
    assert "empty.txt lists no class; write a class's name per line" in says(class_list="empty.txt")
    with pytest.raises(DataError, match="is not there; give the folder that holds the tar shards"):
        WebDataset(tmp_path / "absent")
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/a.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"holds no \.tar.*decompress a\.tar\.gz"):
        WebDataset(tmp_path / "packed")


def test_a_long_class_list_is_not_cut(tmp_path, monkeypatch):
    write_shard(tmp_path / "shard.tar", [sample(n) for n in range(3)])
    (tmp_path / "three.txt").write_text("cat\ndog\nfox\n")
    monkeypatch.setattr(preprocess.sources.webdataset, "_MAX_LIST_BYTES", 12)
    assert WebDataset(tmp_path, class_list="three.txt").class_names == ("cat", "dog", "fox")
    monkeypatch.setattr(preprocess.sources.webdataset, "_MAX_LIST_BYTES", 11)
    with pytest.raises(
        DataError, match=r"three\.txt has more than 11 bytes; give a list of classes"
    ):
        WebDataset(tmp_path, class_list="three.txt")


def read(root: Path, **options) -> list[Record]:
    return WebDataset(root, **options).records("all")


def test_a_member_of_negative_size_is_refused(tmp_path):
    member = tarfile.TarInfo("a.jpg")
    member.size = -5
    path = tmp_path / "a.tar"
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(2 * tarfile.BLOCKSIZE))
    with pytest.raises(DataError, match=r"a\.jpg has -5 bytes"):
        list(read_samples(path, {"cls"}.__contains__))


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_that_claims_more_than_there_is_memory(tmp_path, kind):
    member = tarfile.TarInfo("././@LongLink")
    member.type, member.size = kind, 1 << 50
    path = tmp_path / "a.tar"
    path.write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(2 * tarfile.BLOCKSIZE))
    with pytest.raises(DataError, match=r"a\.tar: it is no intact tar \(.+\): fetch it again"):
        list(read_samples(path, {"cls"}.__contains__))
    with pytest.raises(
        FormatError, match=r"a\.tar: is no intact tar \(.+\); pack this shard again"
    ):
        list(read_rows(path))
