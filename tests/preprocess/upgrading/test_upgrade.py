"""From version 1 to 2: the same samples under the same promises, tars untouched, killed anywhere."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from preprocess.packing.pool import Pool
from preprocess.upgrade import main
from preprocess.upgrading.upgrade_split import upgrade_split
from preprocess.verifying.repair import repair_split
from preprocess.verifying.verification import verify_split
from shards.dataset import ShardDataset
from shards.disk.format import TABLE_NAMES, digest
from shards.errors import FormatError, SampleError
from shards.identity import identity
from shards.index import DatasetIndex
from shards.loader import Loader
from shards.sampler import World
from tests.conftest import pack
from tests.faults.crash import dies_before


@pytest.fixture
def copy(packed_1, tmp_path) -> Path:
    return Path(shutil.copytree(packed_1, tmp_path / "train"))


@pytest.fixture(scope="module")
def upgraded(packed_1, tmp_path_factory) -> Path:
    """The 70 photographs as version 2; read-only by agreement."""
    root = Path(shutil.copytree(packed_1, tmp_path_factory.mktemp("upgraded") / "train"))
    upgrade_split(root, 2)
    return root


@pytest.fixture(scope="module")
def pool():
    pool = Pool(1)
    yield pool
    pool.close()


def files_of(root: Path) -> dict[str, tuple[bytes, int]]:
    return {
        path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in sorted(root.iterdir())
    }


def lines(root: Path, pool: Pool) -> list[str]:
    return [finding.line() for finding in verify_split(root, pool).findings]


def test_shards_are_not_touched_and_the_rest_is_of_version_2(copy, packed):
    before = files_of(copy)
    told = upgrade_split(copy)
    assert told == f"{copy}: 70 samples in 5 shards of version 2 now"
    after = files_of(copy)
    for name, content in before.items():
        if name.endswith((".tar", ".idx")):
            assert after[name] == content
    assert "samples.npy" not in after
    assert set(after) - set(before) == set(TABLE_NAMES)
    described = json.loads(after["index.json"][0])
    assert described["version"] == 2
    assert "shards" not in described
    assert len(np.load(copy / "shards.npy")) == 5
    assert np.load(copy / "shards.npy").dtype.itemsize == 52
    packed_now = {path.name: path.read_bytes() for path in packed.iterdir()}
    assert {name: content for name, (content, _) in after.items()} == packed_now


def test_both_versions_are_read_alike(index_1, upgraded):
    index = index_1
    new = DatasetIndex.open(upgraded)
    assert list(new.shards) == list(index.shards)
    assert new.shards[-1] == index.shards[-1]
    assert new.shards[1:3] == list(index.shards[1:3])
    with pytest.raises(IndexError):
        new.shards[5]
    assert new.shard_sizes.tolist() == index.shard_sizes.tolist() == [16, 16, 16, 16, 6]
    assert new.keys().tolist() == index.keys().tolist()
    assert new.key(17) == index.key(17)
    for name in ("shard", "width", "height", "offset", "length", "labels", "ignored"):
        assert np.array_equal(new.samples[name], index.samples[name])
    assert identity(new) == identity(index)
    image, labels, known, key = ShardDataset(new)[33]
    other = ShardDataset(index)[33]
    assert np.array_equal(image, other[0])
    assert (labels.tolist(), known.tolist(), key) == (
        other[1].tolist(),
        other[2].tolist(),
        other[3],
    )
    for ours, theirs in zip(Loader(new, 16, size=32), Loader(index, 16, size=32), strict=True):
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.ids, theirs.ids)
        assert ours.num_known == theirs.num_known
    again = pickle.loads(pickle.dumps(new))
    assert again.keys().tolist() == index.keys().tolist()


def test_a_run_goes_on_with_the_upgraded_set(index_1, upgraded):
    loader = Loader(DatasetIndex.open(upgraded), 16, size=32, order="near", world=World(0, 2))
    loader.load_state_dict(Loader(index_1, 16, size=32, order="near").state_dict())


@pytest.mark.slow
def test_killed_before_any_file_operation_the_folder_is_of_one_version(copy, index, tmp_path):
    """And the same command finishes it, to the same bytes."""
    expected = Path(shutil.copytree(copy, tmp_path / "whole" / "train"))
    upgrade_split(expected, 1)
    whole = {name: content for name, (content, _) in files_of(expected).items()}
    versions = []
    for operation in range(200):
        root = Path(shutil.copytree(copy, tmp_path / str(operation) / "train"))
        was_killed = dies_before(operation, root, lambda root=root: upgrade_split(root, 1))
        opened = DatasetIndex.open(root)
        assert opened.keys().tolist() == index.keys().tolist()
        assert np.array_equal(opened.labels(), index.labels())
        versions.append(json.loads((root / "index.json").read_text())["version"])
        upgrade_split(root, 1)
        assert {name: content for name, (content, _) in files_of(root).items()} == whole
        shutil.rmtree(root)
        if not was_killed:
            break
    assert operation > 15
    assert versions == sorted(versions)
    assert {1, 2} == set(versions)


def test_verify_finds_nothing_in_what_was_upgraded(upgraded, pool):
    assert lines(upgraded, pool) == []


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "at", "says"),
    [
        ("rows.npy", -1, "rows.npy"),  # an ignored label
        ("rows.npy", -10, "rows.npy"),
        ("rows.npy", 256 + 25, "rows.npy"),  # a CRC
        ("rows.npy", 40, "rows.npy"),  # the header
        ("keys.npy", -12, "keys"),
        ("shards.npy", -1, "shards.npy"),
        ("shards.npy", 10, "shards.npy"),
    ],
)
def test_damaged_tables_are_named_and_restored_to_the_same_bytes(copy, pool, name, at, says):
    upgrade_split(copy, 1)
    whole = files_of(copy)
    flip(copy / name, at)
    found = verify_split(copy, pool).findings
    assert found
    assert any(says in finding.line() for finding in found)
    assert {finding.mend for finding in found} == {"rewrite"}
    for _ in repair_split(copy, found):
        pass
    shutil.rmtree(copy / "damaged")
    restored = files_of(copy)
    assert {name: content for name, (content, _) in restored.items()} == {
        name: content for name, (content, _) in whole.items()
    }
    assert lines(copy, pool) == []


@pytest.mark.parametrize("name", TABLE_NAMES)
def test_a_table_that_is_gone_is_named(copy, pool, name):
    upgrade_split(copy, 1)
    (copy / name).unlink()
    found = lines(copy, pool)
    assert any(name in line for line in found), found
    if name != "entries.json":  # of the packer alone: nobody reads it
        with pytest.raises(FormatError, match=rf"{name}: cannot be opened"):
            DatasetIndex.open(copy)


@pytest.mark.parametrize("name", ["entries.json", "index.json"])
def test_damage_that_no_shard_can_prove_is_not_made_to_look_right(copy, pool, name):
    upgrade_split(copy, 1)
    data = (copy / name).read_text()
    for old, new in (
        ('"pixel_sum": [', '"pixel_sum": [1'),
        ('"num_rejected": 0', '"num_rejected": 1'),
    ):
        data = data.replace(old, new, 1)
    (copy / name).write_text(data)
    found = verify_split(copy, pool).findings
    assert found
    assert "split" in {finding.mend for finding in found} or name == "index.json"


def test_what_is_left_of_the_other_version_is_named(copy, packed_1, pool):
    upgrade_split(copy, 1)
    shutil.copy(packed_1 / "samples.npy", copy)
    (line,) = lines(copy, pool)
    assert "samples.npy: is of the other format version" in line
    assert upgrade_split(copy).endswith("samples.npy of version 1 is removed")
    assert lines(copy, pool) == []


def test_a_damaged_shard_is_not_upgraded(copy):
    flip(copy / "train-000002.tar", 5_000)
    with pytest.raises(FormatError, match=r"train-000002\.tar: its checksum is wrong"):
        upgrade_split(copy)
    assert json.loads((copy / "index.json").read_text())["version"] == 1
    assert not any((copy / name).exists() for name in TABLE_NAMES)


def test_a_damaged_index_is_not_upgraded(copy):
    path = copy / "index.json"
    path.write_text(path.read_text().replace('"num_rejected": 0', '"num_rejected": 1'))
    with pytest.raises(FormatError, match=r"index\.json: its checksum is wrong"):
        upgrade_split(copy)


def test_rows_beyond_their_shard_are_not_upgraded(copy):
    samples = np.load(copy / "samples.npy")
    samples["length"][20] = 2**31
    np.save(copy / "samples.npy", samples)
    with pytest.raises(FormatError, match=r"samples\.npy: has rows of train-000001\.tar"):
        upgrade_split(copy)


def test_shards_are_looked_at_when_they_are_first_used(copy):
    """Opening 100,000 of them would take seconds on a network disk; verify looks at all."""
    upgrade_split(copy, 1)
    (copy / "train-000003.tar").unlink()
    path = copy / "train-000001.tar"
    path.write_bytes(path.read_bytes() + b"more")
    dataset = ShardDataset(copy)
    assert dataset[0][3] == dataset.index.key(0)
    with pytest.raises(SampleError, match=r"train-000003\.tar: sample .* cannot be opened"):
        dataset[50]
    with pytest.raises(SampleError, match=r"train-000001\.tar: sample .* the shard has"):
        dataset[20]


def test_the_command_upgrades_all_splits_and_says_so_twice(packed_1, tmp_path, capsys):
    for dataset in ("one", "two"):
        shutil.copytree(packed_1, tmp_path / "data" / dataset / "train")
    main([str(tmp_path / "data" / "one")])
    main([str(tmp_path / "data" / "one" / "train")])
    told = capsys.readouterr().out.splitlines()
    assert told[0].endswith("70 samples in 5 shards of version 2 now")
    assert told[1].endswith("is of version 2 already")


def test_links_to_tars_of_another_writer(packed_1, tmp_path, pool):
    """Rows and keys are all that is known of them; the tars are read, not written."""
    root = tmp_path / "train"
    root.mkdir()
    described = json.loads((packed_1 / "index.json").read_text())
    described["image"] = {"members": ["jpg"], "mode": "RGB"}
    described["in_place"] = True
    del described["checksum"]
    (root / "index.json").write_text(json.dumps({**described, "checksum": digest(described)}))
    for path in packed_1.iterdir():
        if path.suffix == ".tar":
            (root / path.name).symlink_to(path)
        elif path.suffix in (".idx", ".npy"):
            shutil.copy(path, root)
    before = DatasetIndex.open(root)
    assert before.in_place
    keys = before.keys().tolist()
    upgrade_split(root)
    after = DatasetIndex.open(root)
    assert after.in_place
    assert after.keys().tolist() == keys
    assert (root / "train-000002.tar").is_symlink()
    assert lines(root, pool) == []
    flip(root / "keys.npy", -3)
    found = verify_split(root, pool).findings
    assert {finding.mend for finding in found} == {"none"}
    assert any("keys_crc of train-000004.tar is wrong" in finding.line() for finding in found)


def test_the_packer_leaves_version_2_whatever_it_finds(copy, records, packed):
    """A run over a folder of version 1 keeps its shards, whose bytes it compares anyway."""
    before = files_of(copy)
    assert pack(records, copy).num_kept == 5
    after = files_of(copy)
    for name, content in before.items():
        if name.endswith((".tar", ".idx")):
            assert after[name] == content
    assert {name: content for name, (content, _) in after.items()} == {
        name: content for name, (content, _) in files_of(packed).items()
    }
    assert pack(records, copy).num_kept == 5
    assert files_of(copy) == after


def test_an_unfinished_folder_is_refused(copy):
    (copy / "index.json").rename(copy / "packing.json")
    with pytest.raises(FormatError, match="packing was not finished"):
        upgrade_split(copy)
