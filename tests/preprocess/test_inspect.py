"""`python -m preprocess.inspect`: findings say what is wrong, files are written, mistakes get one
line.
"""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import ImageEnhance

from preprocess.inspect import main
from preprocess.inspecting.findings import Facts, Finding, findings
from preprocess.inspecting.inspection import inspect
from preprocess.inspecting.normalised import normalise
from preprocess.inspecting.statistics import count
from preprocess.record import Record
from shards.commandline import run
from shards.dataset import ShardDataset
from shards.index import list_splits, open_split
from tests.conftest import jpeg
from tests.described import listed, write_listed
from tests.preprocess.conftest import NAMES, members, pack, scene


def test_findings_say_what_is_wrong(things, inspection):
    serious = [finding.text for finding in inspection.findings if finding.serious]
    assert serious == [
        "4 images of val look like images of train",
        "val has no positive of jay",
        "no split has a positive of never",
    ]
    texts = [finding.text for finding in inspection.findings]
    assert texts[: len(serious)] == serious
    assert "1 key is in both train and val: t3" in texts
    shown = {
        sample["source"].partition(".")[0]: sample["labels"]
        for name in ("train", "val")
        for sample, _ in members(things / name)
    }
    pairs = [
        ("t0", "copy-0"),
        ("t7", "copy-7"),
        ("t7", "twin-7"),
        ("copy-7", "twin-7"),
        ("t9", "copy-9"),
    ]
    contradictions = sum(shown[one] != shown[other] for one, other in pairs)
    assert 1 < contradictions < 5
    assert f"{contradictions} pairs look alike but have different labels" in texts
    assert "1 image of val is of almost one colour" in texts
    assert any(
        re.fullmatch(r"\d+ images of train \(\d+\.\d%\) show none of the classes", text)
        for text in texts
    )
    assert "the narrowest image of train is 5.0 times as long as wide" in texts
    assert any(text.startswith("val has fewer than 10 positives of ") for text in texts)


def test_a_clean_dataset_has_no_findings(tmp_path):
    for split, first in (("train", 0), ("val", 100)):
        folder = tmp_path / "source" / split
        folder.mkdir(parents=True)
        records = []
        for n in range(first, first + 24):
            path = folder / f"{n}.jpg"
            path.write_bytes(jpeg(scene(n, (64, 48))))
            records.append(Record(str(n), path, path.name, (n % 2,), ()))
        pack(tmp_path / "data", split, records, ("a", "b"))
    assert [finding.text for finding in inspect(tmp_path / "data", True, 1).findings] == []


def test_differences_between_splits_are_found(tmp_path):
    for split, first, num_a, brightness in (("train", 0, 50, 1.0), ("val", 1000, 80, 0.5)):
        folder = tmp_path / "source" / split
        folder.mkdir(parents=True)
        records = []
        for n in range(100):
            path = folder / f"{first + n}.jpg"
            path.write_bytes(
                jpeg(ImageEnhance.Brightness(scene(first + n, (40, 48))).enhance(brightness))
            )
            records.append(Record(path.stem, path, path.name, (int(n >= num_a),), ()))
        pack(tmp_path / "data", split, records, ("a", "b"), short_side=36 if split == "val" else 0)
    assert [finding.text for finding in inspect(tmp_path / "data", False, 1).findings] == [
        "train and val differ in how common these are: a (50.0% and 80.0%), b (50.0% and 20.0%)",
        "train and val differ in colour or brightness: see mean and std",
        "train and val were packed with different short_side",
    ]


def test_the_command_prints_and_writes(things, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main([str(things), "--num-threads", "1"])
    told = capsys.readouterr()
    assert told.err == ""
    assert told.out.startswith(
        "things: 111 images of 10 classes\n\n! 4 images of val look like images of train\n"
    )
    assert (
        "see inspect-things/inspect.html; the numbers are in inspect-things/inspect.json"
        in told.out
    )
    numbers = json.loads((tmp_path / "inspect-things" / "inspect.json").read_text())
    assert numbers["class_names"] == list(NAMES)
    assert numbers["splits"]["train"]["positives"] == dict(
        zip(NAMES, count(open_split(things, "train")).positives, strict=True)
    )
    pairs = numbers["near_duplicates"]["pairs"]
    assert {(pair["first"]["key"], pair["second"]["key"], pair["mirrored"]) for pair in pairs} == {
        ("t0", "copy-0", False),
        ("t7", "copy-7", False),
        ("t7", "twin-7", False),
        ("copy-7", "twin-7", False),
        ("t9", "copy-9", True),
    }
    assert numbers["near_duplicates"]["images_that_look_like_images_of"] == {
        "train": {"train": 0, "val": 3},
        "val": {"train": 4, "val": 2},
    }
    assert numbers["same_keys"] == [{"splits": ["train", "val"], "num_keys": 1, "keys": ["t3"]}]
    assert numbers["near_duplicates"]["one_colour"] == [{"split": "val", "key": "flat"}]


def test_same_input_same_files(things, tmp_path, capsys):
    for name in ("a", "b"):
        main([str(things), "--out", str(tmp_path / name)])
    main([str(things), "--out", str(tmp_path / "c"), "--seed", "1"])
    capsys.readouterr()
    pages = [(tmp_path / name / "inspect.html").read_bytes() for name in "abc"]
    assert pages[0] == pages[1]
    assert pages[0] != pages[2]


def test_files_inside_the_dataset_disturb_nobody(things, tmp_path, capsys):
    copy = shutil.copytree(things, tmp_path / "copy")
    for out in (copy, copy / "inspect", copy / "train"):
        main([str(copy), "--out", str(out), "--images", "1"])
        assert list_splits(copy) == ["train", "val"]
        assert open_split(copy, "train").num_samples == 70
    capsys.readouterr()


def test_without_looking_at_images_for_duplicates(things, tmp_path, capsys):
    main([str(things), "--no-duplicates", "--images", "0", "--out", str(tmp_path)])
    assert "nobody looked for near-duplicates" in capsys.readouterr().out
    assert json.loads((tmp_path / "inspect.json").read_text())["near_duplicates"] is None
    page = (tmp_path / "inspect.html").read_text()
    assert "<img " not in page.partition("</style>")[2]
    assert "#samples" not in page
    assert "Nobody looked for near-duplicates" in page


def mistake(capsys, *args: str) -> str:
    with pytest.raises(SystemExit) as left:
        run(lambda: main(list(args)))
    told = capsys.readouterr()
    assert left.value.code == 2
    assert told.err.count("\n") == 1
    return told.err


def test_mistakes_get_one_line(things, tmp_path, capsys):
    assert "this is one split; give the folder of the whole dataset" in mistake(
        capsys, str(things / "train")
    )
    assert "no packed dataset here; pack it first" in mistake(capsys, str(tmp_path / "nowhere"))
    assert "--images is -1: give 0 or more" in mistake(capsys, str(things), "--images", "-1")
    (tmp_path / "file").write_text("")
    assert "a file of that name is there" in mistake(
        capsys, str(things), "--out", str(tmp_path / "file")
    )
    copy = shutil.copytree(things, tmp_path / "copy")
    described = listed(copy / "val")
    described["class_names"][0] = "cow"
    write_listed(copy / "val", described)
    assert "train and val have different class names" in mistake(capsys, str(copy))


@pytest.mark.slow
def test_a_reader_that_goes_away_leaves_no_traceback(packed, tmp_path):
    """As with `... | head -1`: the other end of the pipe is closed before anything is written."""
    command = [
        sys.executable,
        "-m",
        "preprocess.inspect",
        str(packed.parent),
        "--no-duplicates",
        "--out",
        str(tmp_path),
    ]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=300)
    os.close(writer)
    assert done.returncode == 141
    assert done.stderr == ""


def test_normalised_pixels_have_mean_0_and_std_1_where_the_index_is_right(index):
    """As numpy finds it over all decoded pixels; packing measures before it encodes, so JPEGs are
    off by little.
    """
    (found,) = normalise([index], 2)
    dataset, statistics = ShardDataset(index), index.statistics
    pixels = (
        np.concatenate([dataset.image(number).reshape(-1, 3) for number in range(len(dataset))])
        / 255.0
    )
    normalised = (pixels - statistics["mean"]) / statistics["std"]
    assert found.num_images == index.num_samples
    np.testing.assert_allclose(found.mean, normalised.mean(0), atol=1e-5)
    np.testing.assert_allclose(found.std, normalised.std(0), atol=1e-5)
    # the packer sums up its own decoding, which repeats chroma: of 64 noisy pixels that is seen
    assert found.worst < 0.03
    shifted = [
        mean + std / 2 for mean, std in zip(statistics["mean"], statistics["std"], strict=True)
    ]
    (off,) = normalise([dataclasses.replace(index, statistics={**statistics, "mean": shifted})], 1)
    assert off.worst == pytest.approx(0.5, abs=0.01)
    facts = Facts(index.class_names, [count(index)], [index.settings], normalised=[off.worst])
    said = "mean and std in the index of train are not those of its images: pack it again"
    assert Finding(said, serious=True) in findings(facts)
    assert said not in [
        line.text for line in findings(dataclasses.replace(facts, normalised=[found.worst]))
    ]


def test_of_large_sets_some_images_are_measured(index, monkeypatch):
    monkeypatch.setattr("preprocess.inspecting.normalised.MOST_PIXELS", 1)
    monkeypatch.setattr("preprocess.inspecting.normalised.LEAST_IMAGES", 9)
    (found,) = normalise([index], 2)
    assert found.num_images == 9


@pytest.mark.parametrize("harm", ["image", "offset", "shard"])
def test_a_sample_that_cannot_be_read_is_named(things, tmp_path, capsys, harm):
    copy = shutil.copytree(things, tmp_path / "copy") / "val"
    samples = np.load(copy / "rows.npy")
    place = np.load(copy / "keys.npy").tolist().index(b"copy-0")
    row = samples[place]
    if harm == "image":
        with open(copy / "val-000001.tar", "r+b") as file:
            file.seek(int(row["offset"][0]))
            file.write(b"no JPEG")
    else:
        samples[harm][place] = 1 << 31
        np.save(copy / "rows.npy", samples)
    said = mistake(capsys, str(copy.parent), "--out", str(tmp_path), "--num-threads", "1")
    file = "rows.npy" if harm == "shard" else "val-000001.tar"
    pattern = rf"error: .*/val/{file}: sample copy-0: .*; run the same preprocess\.shard command again to restore"
    assert re.match(pattern, said), said


def test_keys_that_are_not_ascii_are_no_traceback(things, tmp_path, capsys):
    copy = shutil.copytree(things, tmp_path / "copy")
    for split in ("train", "val"):
        keys = np.load(copy / split / "keys.npy")
        keys[3] = b"t\xff"
        np.save(copy / split / "keys.npy", keys)
    main([str(copy), "--no-duplicates", "--images", "0", "--out", str(tmp_path)])
    assert r"1 key is in both train and val: t\xff" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("out", "says"),
    [
        ("file", "a file of that name is there; give a folder"),
        ("file/below/it", "cannot be written (Not a directory"),
        ("/proc/inspected", "cannot be written ("),
        ("taken", "inspect.html in it is a folder; give another folder"),
    ],
)
def test_an_out_that_cannot_be_written_is_found_before_an_image_is_read(
    things, tmp_path, monkeypatch, capsys, out, says
):
    (tmp_path / "file").touch()
    (tmp_path / "taken/inspect.html").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "preprocess.inspecting.inspection.inspect", lambda *args: pytest.fail("images are read")
    )
    monkeypatch.setattr(sys, "argv", ["preprocess.inspect", str(things), "--out", out])
    with pytest.raises(SystemExit) as caught:
        run(main)
    errors = capsys.readouterr().err
    assert (caught.value.code, errors.count("\n")) == (2, 1)
    assert says in errors


def test_looking_whether_out_can_be_written_leaves_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["preprocess.inspect", "none", "--out", "a/b"])
    with pytest.raises(SystemExit):
        run(main)
    assert list(tmp_path.iterdir()) == []
