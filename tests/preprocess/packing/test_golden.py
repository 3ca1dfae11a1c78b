"""A packed split keeps its bytes from version to version, and on every processor.

Only what our own code decides: JPEGs that keep their coefficients. What libraries encode may change
with them. `python tests/preprocess/packing/test_golden.py` writes the golden split again, after an
intended change of the format. `golden/version-1` stays: sets of that time must be read for ever.
"""

import hashlib
import shutil
from pathlib import Path

from preprocess.record import Record
from preprocess.upgrading.upgrade_split import upgrade_split
from shards.identity import identity
from shards.index import DatasetIndex
from tests.conftest import jpeg, pack, photograph
from tests.version_1 import as_version_1

GOLDEN = Path(__file__).parents[2] / "golden"
CROPS = "8dbfc71a058f02f8e8c6994548f0a903d0d95b0820bc3f28da8bb34dfd02dcfc"
LABELS = [((0, 3), ()), ((), (10,)), ((5,), (0, 1)), ((), ()), ((10,), ())]


def golden_records() -> list[Record]:
    """List the five photographs: 4:4:4, 4:2:0 of odd size, progressive, grey, 4:2:2 with metadata."""
    paths = sorted((GOLDEN / "photographs").iterdir())
    return [
        Record(f"photo.{number}", path, path.name, *labels)
        for number, (path, labels) in enumerate(zip(paths, LABELS, strict=True))
    ]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_shards_index_and_rows_are_byte_for_byte_the_golden_ones(tmp_path):
    pack(golden_records(), tmp_path / "train", shard_samples=3, order="shuffled")
    packed, golden = contents(tmp_path / "train"), contents(GOLDEN / "split")
    assert list(packed) == list(golden)
    assert "train-000001.tar" in packed
    for name in golden:
        assert packed[name] == golden[name], name


def test_version_1_of_the_golden_split_is_read_and_becomes_the_same(tmp_path):
    """Its metadata are those that a release before format 2 wrote of these shards."""
    old = old_golden(tmp_path / "train")
    assert old == contents(as_version_1(shutil.copytree(GOLDEN / "split", tmp_path / "back")))
    one, two = DatasetIndex.open(tmp_path / "train"), DatasetIndex.open(GOLDEN / "split")
    assert identity(one) == identity(two)
    pack(golden_records(), tmp_path / "train", shard_samples=3, order="shuffled")
    assert contents(tmp_path / "train") == contents(GOLDEN / "split")
    shutil.rmtree(tmp_path / "train")
    old_golden(tmp_path / "train")
    upgrade_split(tmp_path / "train")
    assert contents(tmp_path / "train") == contents(GOLDEN / "split")


def old_golden(root: Path) -> dict[str, bytes]:
    """Lay out the golden split of version 1; return its files."""
    shutil.copytree(GOLDEN / "version-1", root)
    for path in (GOLDEN / "split").iterdir():
        if path.suffix in (".tar", ".idx"):
            shutil.copy(path, root)
    return contents(root)


def test_training_crops_of_the_golden_split_keep_their_bits():
    """Whatever was compiled before, on any x86-64 machine: no product and sum is rounded as one."""
    from shards.loader import Loader  # torch: the emulated Arm machine has none

    digest = hashlib.sha256()
    loader = Loader(DatasetIndex.open(GOLDEN / "split"), global_batch_size=5, size=32, seed=0)
    for _ in range(8):
        for batch in loader:
            digest.update(batch.images.contiguous().numpy().tobytes())
    assert digest.hexdigest() == CROPS


def write_photographs(folder: Path) -> None:
    """Write the inputs, once: another encoder would make other bytes of them."""
    folder.mkdir(parents=True)
    grey = jpeg(photograph(48, 40, 3).convert("L"), quality=50)
    marked = jpeg(
        photograph(60, 33, 4),
        quality=40,
        subsampling=1,
        comment=b"a comment",
        icc_profile=b"x" * 40,
    )
    (folder / "1.jpg").write_bytes(jpeg(photograph(64, 48, 0), quality=60, subsampling=0))
    (folder / "2.jpg").write_bytes(jpeg(photograph(97, 61, 1), quality=50, subsampling=2))
    (folder / "3.jpg").write_bytes(jpeg(photograph(80, 48, 2), quality=50, progressive=True))
    (folder / "4.jpg").write_bytes(grey)
    (folder / "5.jpg").write_bytes(marked)


if __name__ == "__main__":
    if not (GOLDEN / "photographs").is_dir():
        write_photographs(GOLDEN / "photographs")
    shutil.rmtree(GOLDEN / "split", ignore_errors=True)
    pack(golden_records(), GOLDEN / "split", shard_samples=3, order="shuffled")
