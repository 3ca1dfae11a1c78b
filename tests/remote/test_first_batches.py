"""The first batches by ranges: before a shard is here, the same bits, whatever the server does."""

import re
import shutil
import threading

import numpy as np
import pytest

from benchmarks.object_server import Objects, ObjectServer
from shards.disk.format import lean_row_dtype
from shards.disk.tables import Shard
from shards.errors import DataError
from shards.index import open_split
from shards.loader import Loader, Order
from shards.remote import early_images, fetch_ahead, patience
from shards.remote.address import Address
from shards.remote.cache_folder import CacheFolder
from shards.remote.early_images import CONNECTIONS, RangeReader, join_ranges, worth_reading
from shards.remote.transfer import open_store
from shards.sampler import World
from tests.conftest import pack, write_photographs
from tests.remote.faulty_server import HASTY, IMPATIENT, FaultyObjects, FaultyServer, wait_until
from tests.shards.pipeline.test_bands import BANDS, pack_tiffs
from tests.version_1 import as_version_1

BATCH = 4
CUT = ("reset", "cut", "unmarked cut", "stretched", "trickle", "silence")
SCATTERED = Order("near", groups=2)


class Withholding(FaultyServer):
    """Answers requests for whole tars only once `shards_come` is set; others are wrong as `always`
    says. `ranges` are those that were asked for.
    """

    def __init__(self, folder, always="") -> None:
        super().__init__(folder, always=always)
        self.RequestHandlerClass = RangedObjects
        self.shards_come = threading.Event()
        self.ranges: list[tuple[str, str]] = []
        self.num_wrong = 1 << 30  # so many answers to ranges are wrong

    def __exit__(self, *given) -> None:
        self.shards_come.set()
        super().__exit__(*given)


class RangedObjects(FaultyObjects):
    server: Withholding

    def answer(self, name, data) -> None:
        wanted = self.headers.get("Range", "")
        if not name.endswith(".tar"):
            Objects.answer(self, name, data)
        elif not re.fullmatch(r"bytes=\d+-\d+", wanted):
            self.server.shards_come.wait(20)
            Objects.answer(self, name, data)
        else:
            with self.server.lock:
                self.server.ranges.append((name, wanted))
                is_wrong = len(self.server.ranges) <= self.server.num_wrong
            if is_wrong:
                super().answer(name, self._part(data) if self.server.always in CUT else data)
            else:
                Objects.answer(self, name, data)

    def _place(self) -> tuple[int, int]:
        first, last = re.findall(r"\d+", self.headers["Range"])
        return int(first), int(last)

    def _part(self, data) -> bytes:
        first, last = self._place()
        return data[first : last + 1]

    def _head(self, length) -> None:
        first, last = self._place()
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/*")
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Connection", "close")
        self.end_headers()

    def _flipped(self, name, data) -> None:
        """Flip a bit of each byte, so of each image."""
        first, last = self._place()
        changed = bytes(byte ^ 4 for byte in self._part(data))
        self.send(206, changed, f"bytes {first}-{last}/{len(data)}")

    def _shorter(self, name, data) -> None:
        first, last = self._place()
        self.send(206, data[first:last], f"bytes {first}-{last - 1}/{len(data)}")

    def _to_the_end(self, name, data) -> None:
        """Send more than was asked for."""
        first, _ = self._place()
        self.send(206, data[first:], f"bytes {first}-{len(data) - 1}/{len(data)}")

    def _another_length(self, name, data) -> None:
        first, last = self._place()
        self.send(206, self._part(data), f"bytes {first}-{last}/{len(data) + 512}")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """100 photographs in two shards: a batch is a small part of a shard."""
    root = tmp_path_factory.mktemp("first")
    pack(write_photographs(root / "source", 100), root / "set" / "train", shard_samples=50)
    return root / "set"


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    """Sets of tests are small: no gap is read, and no batch is too much of the set."""
    monkeypatch.setattr(patience, "PATIENCE", HASTY)
    monkeypatch.setattr(early_images, "GAP_BYTES", 3000)
    monkeypatch.setattr(fetch_ahead, "EARLY_SHARE", 1.0)


def read(index, num=None, state=None, **options):
    """Read batches, all of the epoch or `num`: what identifies their bits."""
    loader = Loader(index, BATCH, size=32, num_threads=2, **options)
    if state is not None:
        loader.load_state_dict({**loader.state_dict(), **state})
    rows = iter(loader)
    found = []
    for batch in rows:
        found.append((batch.ids.tolist(), batch.images.numpy().tobytes()))
        if len(found) == num:
            break
    rows.close()
    return found


@pytest.mark.parametrize(
    "options",
    [
        {"train": False},
        {"order": SCATTERED},
        {"order": "global"},
        {"order": SCATTERED, "cache": "ram"},
        {"order": SCATTERED, "state": {"epoch": 1, "step": 11}},
        {"train": False, "state": {"epoch": 0, "step": 17}},
    ],
)
def test_the_first_batches_come_before_any_shard(made, tmp_path, options):
    near = read(open_split(made, "train"), **options)
    with Withholding(made) as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        loader = Loader(
            index, BATCH, size=32, **{key: options[key] for key in options if key != "state"}
        )
        if "state" in options:
            loader.load_state_dict({**loader.state_dict(), **options["state"]})
        found = []
        for number, batch in enumerate(loader):
            if number < 3:
                assert not any(index.remote.folder.has(shard.sha256) for shard in index.shards)
            else:
                server.shards_come.set()
            found.append((batch.ids.tolist(), batch.images.numpy().tobytes()))
        assert found == near
        assert 0 < len(set(server.ranges)) <= fetch_ahead.EARLY_STEPS * BATCH
        wholes = server.asked.total() - len(server.ranges)
        assert wholes == 3 + len(index.shards)


def test_in_order_a_batch_is_one_request(made, tmp_path):
    with Withholding(made) as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        loader = iter(Loader(index, BATCH, size=32, num_threads=1, train=False))
        next(loader)
        # so many are made while the first is looked at, and so many may come before their shard
        assert wait_until(lambda: len(server.ranges) == fetch_ahead.EARLY_STEPS)
        for number, (_, wanted) in enumerate(server.ranges):
            rows = index.samples[BATCH * number : BATCH * (number + 1)]
            first, last = map(int, re.findall(r"\d+", wanted))
            assert first == rows["offset"][0][0]
            assert last + 1 == rows["offset"][-1][0] + rows["length"][-1][0]
        server.shards_come.set()
        loader.close()


RIGHT = ("", "to the end", "stretched")  # there are the bytes that were asked for
WRONG = (
    *("500", "503", "reset", "cut", "unmarked cut", "flipped", "shorter", "another length"),
    *("whole for a range", "wrong range", "gzip", "garbage"),
)
SLOW = ("silence", "trickle", "header trickle")


@pytest.mark.parametrize("fault", [*WRONG, "stretched", *SLOW])
@pytest.mark.parametrize("order", [SCATTERED, "global"])
def test_whatever_is_wrong_with_ranges_the_shards_are_read(
    made, tmp_path, fault, order, monkeypatch
):
    if fault in SLOW:  # of a range two attempts are made; the shards are to come in the end
        monkeypatch.setattr(patience, "PATIENCE", IMPATIENT._replace(attempts=100))
    near = read(open_split(made, "train"), order=order)
    with Withholding(made, fault) as server:
        server.shards_come.set()
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        assert read(index, order=order) == near
        assert server.ranges


@pytest.mark.parametrize("fault", WRONG[:7])
def test_a_range_that_fails_once_is_asked_for_again(made, tmp_path, fault):
    near = read(open_split(made, "train"), 1, train=False)
    with Withholding(made, fault) as server:
        server.num_wrong = 1
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        assert read(index, 1, train=False) == near
        assert server.ranges[0] == server.ranges[1]
        assert not index.remote.folder.has(index.shards[0].sha256)


@pytest.mark.parametrize("fault", RIGHT)
def test_bytes_beyond_a_range_are_cut_off(made, tmp_path, fault):
    near = read(open_split(made, "train"), 1, train=False)
    with Withholding(made, fault) as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        assert read(index, 1, train=False) == near
        assert not index.remote.folder.has(index.shards[0].sha256)


def test_a_server_that_answers_whole_is_cut_off_and_not_asked_again(tmp_path):
    body = bytes(100_000_000)
    shard = Shard("a.tar", len(body), 1, "0" * 64)
    rows = some_rows(*[(0, 512 + 1_000_000 * number, 1000) for number in range(60)])
    with FaultyServer(tmp_path, always="whole for a range") as server:
        server.RequestHandlerClass = type("Long", (FaultyObjects,), {"content": lambda *_: body})
        store = open_store(Address.parse(server.url))
        folder = CacheFolder(tmp_path / "cache")
        reader = RangeReader(store, folder, [shard])
        assert reader.read(reader.wanted(rows, 1), lambda _: None) == {}
        assert server.asked["a.tar"] <= CONNECTIONS
        assert server.num_sent < 0.2 * CONNECTIONS * len(body)
        assert reader.wanted(rows, 1) == []


def test_a_replaced_object_is_one_line(made, tmp_path):
    root = tmp_path / "set"
    shutil.copytree(made, root)
    path = root / "train" / "train-000000.tar"
    path.write_bytes(bytes(byte ^ 1 for byte in path.read_bytes()))
    with Withholding(root) as server:
        server.shards_come.set()
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        with pytest.raises(DataError, match=r"train-000000.tar: is not the object that index.json"):
            read(index, train=False)


def test_a_server_that_goes_away_is_one_line(made, tmp_path):
    with ObjectServer(made) as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"))
    with pytest.raises(DataError, match=r"train-00000\d.tar: the connection failed"):
        read(index, train=False)


def test_rows_without_a_checksum_wait_for_their_shards(packed, tmp_path):
    shutil.copytree(packed, tmp_path / "set" / "train")
    as_version_1(tmp_path / "set" / "train")
    with Withholding(tmp_path / "set") as server:
        server.shards_come.set()
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        assert "crc" not in index.samples.dtype.names
        read(index, 5, order=SCATTERED)
        assert server.ranges == []


def test_both_members_of_a_sample_are_read_by_ranges(tmp_path, monkeypatch):
    pack_tiffs(tmp_path / "source", tmp_path / "set" / "train", BANDS)
    near = read(open_split(tmp_path / "set", "train"), 1, train=False)
    with Withholding(tmp_path / "set") as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        assert len(index.members) == 2
        assert read(index, 1, train=False) == near
        first = list(server.ranges)
        assert len({wanted for _, wanted in first}) == len(first)
        # images of a band that is not looked at are not asked for
        wanted = index.remote._ranges.wanted(index.samples[:4], 1)
        assert sum(len(each.images) for each in wanted) == 4


def test_ranks_read_their_own_images(made, tmp_path):
    near = read(open_split(made, "train"), 1, order=SCATTERED)
    with Withholding(made) as server:
        parts = [
            read(
                open_split(server.url, "train", str(tmp_path / "cache")),
                1,
                order=SCATTERED,
                world=World(rank, 2, 2),
            )
            for rank in range(2)
        ]
        assert parts[0][0][0] + parts[1][0][0] == near[0][0]


def test_a_shard_that_is_here_is_not_asked_for_in_ranges(made, tmp_path):
    with Withholding(made) as server:
        server.shards_come.set()
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        for number in range(2):
            index.open_shard(number).close()
        read(index, train=False)
        read(open_split(server.url, "train", str(tmp_path / "cache")), order=SCATTERED)
        assert server.ranges == []


def test_a_shard_that_is_mostly_needed_is_fetched_whole_once(made, tmp_path):
    with Withholding(made) as server:
        server.shards_come.set()
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        loader = Loader(index, 40, size=32, train=False)
        next(iter(loader))
        assert "train/train-000000.tar" not in dict(server.ranges)
        assert server.asked["train/train-000000.tar"] == 1


def test_later_batches_bring_no_more_than_their_share_of_the_set(made, tmp_path, monkeypatch):
    monkeypatch.setattr(fetch_ahead, "EARLY_SHARE", 0.0)
    with Withholding(made) as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        read(index, 1, train=False)
        assert len(server.ranges) == 1


def test_the_first_batch_has_the_link_for_itself(made, tmp_path):
    """While ranges come, no shard is asked for that the batch does not need whole."""
    with Withholding(made) as server:
        index = open_split(server.url, "train", str(tmp_path / "cache"))
        before = server.asked.total()
        seen = []
        get = index.remote._store.get

        def watched(name, *place):
            seen.append(len(place))
            return get(name, *place)

        index.remote._store.get = watched
        read(index, 1, order=SCATTERED)
        assert wait_until(lambda: 2 in seen)
        num = seen.index(2)  # the first request for a whole
        assert num >= 2
        assert server.asked.total() > before


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_file_systems_of_fsspec_are_read_in_ranges(made, tmp_path, kind, monkeypatch):
    import fsspec

    url = made.as_uri()
    if kind == "memory":
        url = "memory://first"
        for path in (made / "train").iterdir():
            fsspec.filesystem("memory").pipe_file(f"/first/train/{path.name}", path.read_bytes())
    index = open_split(url, "train", str(tmp_path / "cache"))
    rows = index.samples[:BATCH]
    reader = index.remote._ranges
    images = reader.read(reader.wanted(rows, 1), lambda _: None)
    near = open_split(made, "train")
    with near.open_shard(0) as file:
        data = file.read()
    for row in rows:
        start = int(row["offset"][0])
        end = start + int(row["length"][0])
        assert images[0, start].tobytes() == data[start:end]
    assert read(index, order=SCATTERED) == read(near, order=SCATTERED)


def test_threads_that_read_ranges_end(made, tmp_path):
    with Withholding(made, "500") as server:
        server.shards_come.set()
        read(open_split(server.url, "train", str(tmp_path / "cache")), 2, order=SCATTERED)
    assert wait_until(
        lambda: not any(thread.name == "tarmac-early" for thread in threading.enumerate())
    )


def some_rows(*places):
    """Make rows of (shard, offset, length), one image each."""
    rows = np.zeros(len(places), lean_row_dtype(1, 1))
    for row, (shard, offset, length) in zip(rows, places, strict=True):
        row["shard"] = shard
        row["offset"] = offset
        row["length"] = length
    return rows


SHARDS = [Shard(f"{number}.tar", 10_000_000, 1, "0" * 64) for number in range(2)]


def test_neighbours_are_one_range_and_others_their_own(monkeypatch):
    monkeypatch.setattr(early_images, "GAP_BYTES", 1000)
    monkeypatch.setattr(early_images, "RANGE_BYTES", 5000)
    rows = some_rows((1, 512, 100), (0, 3000, 700), (0, 1000, 1500), (0, 1000, 1500))
    rows = np.concatenate([rows, some_rows((0, 4701, 500), (0, 6000, 100), (0, 6500, 9000))])
    found = join_ranges(rows, 1, SHARDS)
    assert [(each.shard, each.start, each.stop) for each in found] == [
        (0, 1000, 3700),
        (0, 4701, 6100),
        (0, 6500, 15500),
        (1, 512, 612),
    ]
    assert [len(each.images) for each in found] == [2, 2, 1, 1]


@pytest.mark.parametrize(
    "place",
    [
        (2, 512, 10),
        (2**32 - 1, 0, 10),
        (0, 10_000_000, 1),
        (0, 2**64 - 1, 2**32 - 1),
        (0, 512, 0),
        (0, 512, 2**32 - 1),
    ],
)
def test_rows_of_bytes_that_are_not_there_have_no_range(place):
    assert join_ranges(some_rows(place), 1, SHARDS) == []


def test_every_image_is_in_one_range_that_is_not_too_long(monkeypatch):
    monkeypatch.setattr(early_images, "GAP_BYTES", 2000)
    monkeypatch.setattr(early_images, "RANGE_BYTES", 50_000)
    rng = np.random.default_rng(0)
    for _ in range(50):
        starts = np.cumsum(rng.integers(512, 6000, 40))
        rows = some_rows(*[(int(rng.integers(2)), int(start), 500) for start in starts])
        found = join_ranges(rows, 1, SHARDS)
        images = [(each.shard, image[0]) for each in found for image in each.images]
        assert sorted(images) == sorted(zip(rows["shard"], rows["offset"][:, 0], strict=True))
        for each in found:
            assert each.num_bytes <= 50_000
            assert each.start == each.images[0][0]
            assert each.stop == each.images[-1][0] + 500


def test_a_batch_is_bounded_in_memory(monkeypatch):
    monkeypatch.setattr(early_images, "BATCH_BYTES", 2500)
    ranges = join_ranges(some_rows((0, 512, 1000), (0, 500_000, 1000), (1, 512, 1000)), 1, SHARDS)
    kept, whole = worth_reading(ranges, SHARDS)
    assert len(kept) == 2
    assert whole == set()
