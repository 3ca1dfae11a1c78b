"""A run over what another left: every file mended, whatever stopped it, and nothing of anybody
else's touched.
"""

import hashlib
import json
import os
import re
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from preprocess.packing.pool import Pool, open_pool
from preprocess.verifying.repair import repair_split
from preprocess.verifying.verification import verify_split
from shards.disk.writer import ShardWriter
from shards.errors import DataError
from shards.index import DatasetIndex
from tests.conftest import pack
from tests.described import listed, make_unfinished, write_listed
from tests.preprocess.hanging import pack_images


def digests(root: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(root.iterdir())
    }


@pytest.fixture(params=["packed", "packed_1"])
def copy(request, tmp_path):
    """The packed split, of either version of the format, to be harmed."""
    return Path(shutil.copytree(request.getfixturevalue(request.param), tmp_path / "train"))


def test_a_second_run_touches_nothing(records, packed, tmp_path):
    copy = Path(shutil.copytree(packed, tmp_path / "train"))
    before = {path.name: path.stat().st_mtime_ns for path in copy.iterdir()}
    packing = pack(records, copy)
    assert packing.num_kept == packing.num_shards == 5
    assert {path.name: path.stat().st_mtime_ns for path in copy.iterdir()} == before


@pytest.mark.parametrize(
    "name", ["rows.npy", "keys.npy", "shards.npy", "entries.json", "index.json", "train-000001.idx"]
)
@pytest.mark.parametrize("harm", ["missing", "flipped"])
def test_every_other_file_is_mended_too(records, packed, tmp_path, name, harm):
    mended(records, packed, Path(shutil.copytree(packed, tmp_path / "train")), name, harm)


@pytest.mark.parametrize("name", ["samples.npy", "index.json", "train-000001.idx"])
@pytest.mark.parametrize("harm", ["missing", "flipped"])
def test_every_other_file_of_version_1_too(records, packed, packed_1, tmp_path, name, harm):
    mended(records, packed, Path(shutil.copytree(packed_1, tmp_path / "train")), name, harm)


def mended(records, packed, copy, name, harm):
    """Harm a file, and let the packer run again."""
    if name == "index.json" and harm == "missing":  # a kill: packing.json is what counts
        make_unfinished(copy)
    elif name == "index.json":
        text = (copy / name).read_text()
        changed = text.replace('"mean"', '"average"')
        assert changed != text
        (copy / name).write_text(changed)
    elif harm == "missing":
        (copy / name).unlink()
    else:
        data = bytearray((copy / name).read_bytes())
        data[-3] ^= 1
        (copy / name).write_bytes(data)
    pack(records, copy)
    assert digests(copy) == digests(packed)


def broken(records, numbers, tmp_path):
    """Replace some photographs: by text, by half of themselves, by nothing at all."""
    changed = list(records)
    for kind, number in enumerate(numbers):
        path = tmp_path / f"broken {number}.jpg"
        if kind % 3 == 0:
            path.write_text("no photograph")
        elif kind % 3 == 1:
            path.write_bytes(records[4].path.read_bytes()[:900])
        changed[number] = replace(records[number], path=path)
    return changed


def test_mended_photographs_leave_no_trace_of_their_rejection(records, packed, tmp_path):
    changed = broken(records, (65, 69), tmp_path)
    with pytest.raises(DataError, match="rejected"):
        pack(changed, tmp_path / "train")
    for number in (65, 69):
        shutil.copy(records[number].path, changed[number].path)
    assert pack(changed, tmp_path / "train").num_kept == 4
    assert digests(tmp_path / "train") == digests(packed)


def test_a_shard_of_rejects_alone_is_empty_and_whole(records, tmp_path):
    """64 photographs fill four shards; the fifth was planned for the six bad ones behind them."""
    changed = broken(records, range(64, 70), tmp_path)
    root = tmp_path / "train"
    packing = pack(changed, root, max_rejects=6)
    assert (packing.num_shards, packing.num_samples, packing.num_rejected) == (5, 64, 6)
    index = DatasetIndex.open(root)
    assert [shard.num_samples for shard in index.shards] == [16, 16, 16, 16, 0]
    with tarfile.open(root / "train-000004.tar") as tar:
        assert tar.getnames() == []
    with open_pool(1) as pool:
        assert verify_split(root, pool).findings == []
    before = digests(root)
    (root / "train-000004.tar").unlink()
    assert pack(changed, root, max_rejects=6).num_kept == 4
    assert digests(root) == before


def test_nothing_but_rejects(records, tmp_path):
    with pytest.raises(DataError, match="no image could be packed"):
        pack(broken(records, range(70), tmp_path), tmp_path / "train", max_rejects=1000)
    assert not (tmp_path / "train" / "index.json").exists()


@pytest.mark.parametrize("name", ["notes.txt", "train-000000.tar", "photos.tar", "notes.tmp"])
def test_foreign_files_are_refused_and_left_alone(records, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(DataError, match=f"holds files that are no dataset, such as {name}"):
        pack(records, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_foreign_files_beside_a_dataset_are_left_alone(records, copy):
    for name in ("backup.tar", "notes.tmp", "train-000000.tar.bak"):
        (copy / name).write_text("mine")
    (copy / "train-000001.tar").unlink()
    (copy / "train-000007.tar").write_text("of a longer packing")
    (copy / "train-000002.tar.tmp").write_text("of a killed one")
    pack(records, copy)
    assert {"backup.tar", "notes.tmp", "train-000000.tar.bak"} <= {
        path.name for path in copy.iterdir()
    }
    assert not (copy / "train-000007.tar").exists()
    assert not (copy / "train-000002.tar.tmp").exists()


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": "tarmac"}', '{"format": "tarmac", "identity": 3}']
)
def test_an_unreadable_index_is_refused(records, copy, text):
    (copy / "index.json").write_text(text)
    with pytest.raises(DataError, match=r"cannot be read|another dataset"):
        pack(records, copy)


def test_a_kill_at_any_write_is_made_good(records, packed, copy, monkeypatch):
    """Stop a restoring run at its first, second, ... rename; what is left then must always be
    finished by the next.
    """
    replaced = os.replace
    for stop_at in range(30):
        (copy / "train-000002.tar").unlink(missing_ok=True)
        (copy / "train-000004.idx").unlink(missing_ok=True)
        calls = iter(range(100))

        def kill(source, target, calls=calls, stop_at=stop_at):
            if next(calls) == stop_at:
                raise KeyboardInterrupt
            replaced(source, target)

        monkeypatch.setattr(os, "replace", kill)
        try:
            pack(records, copy)
        except KeyboardInterrupt:
            monkeypatch.setattr(os, "replace", replaced)
            assert not (copy / "index.json").exists() or stop_at == 0
            pack(records, copy)
            assert digests(copy) == digests(packed)
        else:
            assert stop_at > 5
            break
    assert digests(copy) == digests(packed)


def test_source_names_that_are_no_utf8(records, tmp_path):
    name = os.fsdecode(b"caf\xe9 \xc3\xa9.jpg")
    packing = pack([replace(records[0], name=name, source=name)], tmp_path / "train")
    assert packing.num_samples == 1
    with tarfile.open(tmp_path / "train" / "train-000000.tar") as tar:
        described = json.loads(tar.extractfile(tar.getmembers()[1]).read().decode())
    assert described["source"] == name


def test_a_failing_disk_leaves_no_litter(tmp_path):
    """/dev/full is a disk without room; its writer names the shard and drops the unfinished file."""
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    writer = ShardWriter(tmp_path / "train-000000.tar")
    writer._file.close()
    writer._file = open("/dev/full", "wb")  # noqa: SIM115
    writer._write(b"a few bytes, still in the buffer")
    with pytest.raises(OSError, match="No space left") as caught:
        writer.close()
    assert caught.value.filename == str(tmp_path / "train-000000.tar")
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_entries_of_another_kind_are_not_trusted(records, copy, packed):
    """Names that lead out of the folder, and shares of records that are none, only cost a new
    packing.
    """
    described = listed(copy)
    described["shards"][1]["name"] = "../train-000001.tar"
    described["shards"][2]["num_records"] = 0
    write_listed(copy, described, checksum=False)
    pack(records, copy)
    assert digests(copy) == digests(packed)


def edited(harm):
    """An index.json with its shards harmed, and its checksum with it or not."""

    def edit(root: Path, checksum: bool) -> None:
        described = listed(root)
        harm(described["shards"])
        num_samples = sum(entry["num_samples"] or 0 for entry in described["shards"])
        write_listed(root, {**described, "num_samples": num_samples}, checksum)

    return edit


HARMED = {
    "another sum of pixels": edited(lambda shards: shards[1]["pixel_sum"].__setitem__(0, 12345)),
    "the last shard left out": edited(lambda shards: shards.pop()),
    "a sample too many": edited(lambda shards: shards[2].update(num_samples=17)),
    "no first record": edited(lambda shards: shards[0].update(first_record=None)),
    "text for a sum": edited(lambda shards: shards[3].update(pixel_sum=["1", "2", "3"])),
    "no shard at all": edited(lambda shards: shards.clear()),
}


@pytest.mark.parametrize("name", HARMED)
# with one that is right nothing tells that a sum is another
@pytest.mark.parametrize("checksum", [False, True])
def test_a_damaged_index_is_not_made_to_look_right(records, packed, copy, capsys, name, checksum):
    """Its shards may all be intact: what the index alone tells of them would get a new, valid
    checksum.
    """
    if checksum and name == "another sum of pixels":
        return
    HARMED[name](copy, checksum)
    try:
        assert pack(records, copy).num_kept == 0
        told = capsys.readouterr().err
        assert re.search(r"(index|entries)\.json: fails its checksum; every shard is pac", told)
    except DataError as error:
        assert checksum
        assert "--repair moves what is damaged out of the way" in str(error)  # noqa: PT017
        pool = Pool(1)
        list(repair_split(copy, verify_split(copy, pool).findings))
        pack(records, copy)
        shutil.rmtree(copy / "damaged")
    assert digests(copy) == digests(packed)


def test_an_index_nested_without_end_is_refused(records, copy):
    (copy / "index.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"index\.json: cannot be read .*verify .*train --repair"):
        pack(records, copy)


def test_an_unfinished_folder_with_a_gap_is_no_damage(records, packed, copy):
    make_unfinished(copy, [0, 2, 4, 1])
    assert [finding.what for finding in verify_split(copy, Pool(1)).findings] == [
        "packing was not finished"
    ]
    assert pack(records, copy).num_kept == 4
    assert digests(copy) == digests(packed)


@pytest.mark.slow
def test_a_pool_ends_its_processes(records):
    pool = Pool(2)
    try:
        results = pack_images(pool, records[:20])
        next(results)
        workers = [worker.process for worker in pool.started]
    finally:
        pool.close()
    assert len(workers) == 2
    assert not any(worker.is_alive() for worker in workers)
