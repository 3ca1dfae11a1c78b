"""A set that grows: old bytes stay, the new images come behind them, each once."""

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

from preprocess.images.geometry import ImageOptions
from preprocess.packing.index_tables import listed_entries
from preprocess.packing.local_engine import LocalEngine
from preprocess.packing.pack import finalize, pack_split, pack_task
from preprocess.packing.packing_plan import Job
from preprocess.packing.pool import open_pool
from preprocess.verifying.repair import repair_split
from preprocess.verifying.verification import verify_split
from shards.errors import DataError
from shards.index import DatasetIndex
from shards.loader import Loader
from tests.conftest import CLASSES
from tests.version_1 import as_version_1

NUM_OLD = 40


def content(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.iterdir()) if path.is_file()}


def tars(root: Path) -> dict[str, tuple[bytes, int]]:
    paths = sorted([*root.glob("*.tar"), *root.glob("*.idx")])
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def job(records, **options) -> Job:
    settings = {
        "shard_bytes": 10**9,
        "shard_samples": 16,
        "max_rejects": 0,
        "image": ImageOptions(),
        "command": "test",
        "append": True,
        **options,
    }
    return Job("train", CLASSES, records, **settings)


def run(records, root, **options):
    with open_pool(1) as pool:
        return pack_split(job(records, **options), root, pool)


def findings(root: Path) -> list[str]:
    with open_pool(1) as pool:
        return [finding.line() for finding in verify_split(root, pool).findings]


@pytest.fixture(scope="module")
def old(records, tmp_path_factory) -> Path:
    """40 photographs in three shards."""
    root = tmp_path_factory.mktemp("old") / "train"
    run(records[:NUM_OLD], root, append=False, command="first")
    return root


@pytest.fixture(scope="module")
def grown(records, old, tmp_path_factory) -> Path:
    """The same, and 30 more in two shards."""
    root = tmp_path_factory.mktemp("grown") / "train"
    shutil.copytree(old, root)
    run(records, root)
    return root


@pytest.fixture
def root(old, tmp_path) -> Path:
    return Path(shutil.copytree(old, tmp_path / "train"))


@pytest.fixture
def copy(grown, tmp_path) -> Path:
    return Path(shutil.copytree(grown, tmp_path / "train"))


def test_old_shards_keep_their_bytes_and_each_image_comes_once(records, root):
    before = tars(root)
    packing = run(records, root)
    after = tars(root)
    assert {name: after[name] for name in before} == before
    assert (packing.num_samples, packing.num_shards, packing.num_kept) == (70, 5, 3)
    index = DatasetIndex.open(root)
    assert [shard.num_samples for shard in index.shards] == [16, 16, 8, 16, 14]
    keys = index.keys().tolist()
    assert len(set(keys)) == 70
    ours = sorted(record.name.replace(".", "%2E") for record in records)
    assert sorted(keys) == ours
    by_key = {record.name.replace(".", "%2E"): record for record in records}
    for key, labels in zip(keys, index.labels(), strict=True):
        assert tuple(labels.nonzero()[0].tolist()) == by_key[key].labels
    loader = Loader(index, global_batch_size=7, size=16, seed=1)
    assert sorted(number for batch in loader for number in batch.ids.tolist()) == list(range(70))
    assert findings(root) == []


def test_the_index_tells_of_both(grown):
    described = json.loads((grown / "index.json").read_text())
    assert described["command"] == "first"
    assert described["identity"] == described["parts"][0]["identity"]
    told = [
        (part["command"], part["num_records"], part["num_shards"]) for part in described["parts"]
    ]
    assert told == [("first", 40, 3), ("test", 30, 2)]
    shards = listed_entries(grown, described)
    assert [shard["first_record"] for shard in shards] == [0, 16, 32, 40, 56]


def test_a_source_that_holds_the_new_images_alone_gives_the_same(records, grown, root):
    run(records[NUM_OLD:], root)
    assert content(root) == content(grown)


def test_tasks_and_their_finish_give_the_same(records, grown, root):
    with open_pool(1) as pool:
        for index in (1, 0):
            pack_task(job(records), root, pool, index, 2)
            assert DatasetIndex.open(root).num_samples == NUM_OLD
        finalize(job(records), root, pool)
    assert content(root) == content(grown)


class Dying(LocalEngine):
    """Ends after one shard, as a kill does."""

    def pack(self, settings, tasks, advance):
        yield from super().pack(settings, [next(tasks)], advance)
        raise KeyboardInterrupt


def test_the_set_can_be_read_until_an_append_is_through_and_goes_on(records, grown, root):
    before = tars(root)
    with open_pool(1) as pool, pytest.raises(KeyboardInterrupt):
        pack_split(job(records), root, pool, Dying(pool))
    assert DatasetIndex.open(root).num_samples == NUM_OLD
    between = tars(root)
    assert {name: between[name] for name in before} == before
    assert set(between) - set(before) == {"train-000003.tar", "train-000003.idx"}
    assert [line.split(": ")[0] for line in findings(root)] == [
        f"{root}/{name}"
        for name in ("packing.json", "packing", "train-000003.idx", "train-000003.tar")
    ]
    assert run(records, root).num_kept == 4
    after = tars(root)
    assert {name: after[name] for name in between} == between
    assert content(root) == content(grown)


def test_an_unfinished_append_of_other_images_is_begun_again(records, grown, root):
    with open_pool(1) as pool, pytest.raises(KeyboardInterrupt):
        pack_split(job(records[:-9]), root, pool, Dying(pool))
    run(records, root)
    assert content(root) == content(grown)


def test_nothing_new_changes_nothing(records, copy):
    before = {path: path.stat().st_mtime_ns for path in copy.iterdir()}
    packing = run(records, copy)
    assert (packing.num_kept, packing.is_verified) == (5, False)
    assert {path: path.stat().st_mtime_ns for path in copy.iterdir()} == before


def test_it_grows_again_and_again(records, old, tmp_path):
    root = Path(shutil.copytree(old, tmp_path / "train"))
    for num in (44, 60, 70):
        run(records[:num], root)
        assert DatasetIndex.open(root).num_samples == num
    assert findings(root) == []
    assert len(json.loads((root / "index.json").read_text())["parts"]) == 4


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4])
def test_any_damage_is_repaired_to_the_same_bytes(records, grown, copy, number):
    path = copy / f"train-{number:06d}.tar"
    data = bytearray(path.read_bytes())
    data[3000] ^= 1
    path.write_bytes(data)
    with open_pool(1) as pool:
        list(repair_split(copy, verify_split(copy, pool).findings))
    assert not (copy / "index.json").exists()
    run(records, copy)
    shutil.rmtree(copy / "damaged")
    assert content(copy) == content(grown)


def test_the_first_command_verifies_its_part_and_keeps_the_other(records, grown, copy):
    (copy / "train-000001.tar").unlink()
    run(records[:NUM_OLD], copy, append=False, command="first")
    assert content(copy) == content(grown)


def test_a_lost_shard_whose_images_are_gone_is_one_line(records, copy):
    (copy / "train-000001.tar").unlink()
    with pytest.raises(DataError, match=r"the packing 'first' are missing, and they cannot be mad"):
        run(records[20:], copy)
    with pytest.raises(DataError, match=r"holds another dataset.*--append adds what is new"):
        run(records, copy, append=False)


def test_rejects_are_not_tried_again(records, old, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    changed = [*records[:5], dataclasses.replace(records[5], path=bad), *records[6:]]
    root = tmp_path / "set" / "train"
    run(changed[:NUM_OLD], root, append=False, max_rejects=1)
    packing = run(changed, root)
    assert (packing.num_samples, packing.num_rejected) == (69, 1)


OTHERS = [
    ({"image": ImageOptions(short_side=32)}, "has other images than .*short_side 0, not 32"),
    ({"task": "multiclass"}, "has other task than .*'multilabel', not 'multiclass'"),
]


@pytest.mark.parametrize(("options", "says"), OTHERS)
def test_other_images_or_tasks_are_refused(records, root, options, says):
    before = content(root)
    with pytest.raises(DataError, match=says):
        run(records, root, **options)
    assert content(root) == before


def test_other_classes_are_refused(records, root):
    changed = dataclasses.replace(job(records), class_names=(*CLASSES, "another"))
    with (
        open_pool(1) as pool,
        pytest.raises(DataError, match=r"other class names.*11 and 12, such"),
    ):
        pack_split(changed, root, pool)


def test_another_image_with_a_key_that_is_taken_is_refused(records, root):
    twin = dataclasses.replace(records[50], name=records[3].name)
    with pytest.raises(
        DataError, match=r"photo 050\.jpg: the set has another image with the key 3%"
    ):
        run([twin], root)


def test_there_must_be_a_set(records, tmp_path):
    with pytest.raises(DataError, match="holds no set to add to; leave --append out"):
        run(records, tmp_path / "train")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="holds no set to add to; leave --append out"):
        run(records, tmp_path / "train")


def test_a_set_of_an_earlier_release_grows_too(records, grown, root):
    """Its index names no parts, and is of version 1."""
    path = as_version_1(root) / "index.json"
    described = json.loads(path.read_text())
    del described["parts"], described["checksum"]
    path.write_text(json.dumps(described))
    before = tars(root)
    run(records, root)
    after = tars(root)
    assert {name: after[name] for name in before} == before
    assert {name: data for name, (data, _) in after.items()} == {
        name: data for name, (data, _) in tars(grown).items()
    }
    for name in ("rows.npy", "keys.npy", "shards.npy", "entries.json"):
        assert (root / name).read_bytes() == (grown / name).read_bytes()
    assert not (root / "samples.npy").exists()


def test_an_image_never_changes_between_train_and_val(records, root):
    """As another division by --val-fraction would have it."""
    val = root.with_name("val")
    with open_pool(1) as pool:
        first = dataclasses.replace(job(records[60:], append=False), split="val")
        pack_split(first, val, pool)
        train = job(records[:61], divided=True)
        with pytest.raises(
            DataError, match=r"photo 060\.jpg: is in val already, and --val-fraction"
        ):
            pack_split(train, root, pool)
        grown = dataclasses.replace(first, records=records[39:], divided=True, append=True)
        with pytest.raises(
            DataError, match=r"photo 039\.jpg: is in train already, and --val-fract"
        ):
            pack_split(grown, val, pool)
        pack_split(dataclasses.replace(train, records=records[:60]), root, pool)
    assert DatasetIndex.open(root).num_samples == 60
