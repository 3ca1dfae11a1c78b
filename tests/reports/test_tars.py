"""Tars that stop too early or go on after their end: one line, or everything in them, never half a
set.
"""

import io
import shutil
import subprocess
import tarfile

import pytest

from preprocess.sources.webdataset import WebDataset
from preprocess.verify import main as verify
from shards.errors import DataError
from tests.preprocess.commands import in_place, shard
from tests.preprocess.foreign import sample, write_shard

BLOCK = 512
NUM = 4


def members(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getmembers()


def end(data: bytes) -> int:
    """The byte where the end mark starts."""
    last = members(data)[-1]
    return last.offset_data + -(-last.size // BLOCK) * BLOCK


def start_of(data: bytes, number: int) -> int:
    return members(data)[number].offset


def hole(data: bytes, start: int, stop: int) -> bytes:
    return data[:start] + bytes(stop - start) + data[stop:]


WRONG = {
    "two tars": (lambda d: d + d, "several tars in one file"),
    "two tars without padding": (lambda d: d[: end(d) + 2 * BLOCK] + d, "but more follows at byte"),
    "one block of zeros, then a tar": (lambda d: d[: end(d) + BLOCK] + d, "but more follows at byte"),
    "far behind, another": (lambda d: d + bytes(3 << 20) + d, "but more follows at byte"),
    "a hole of one sample": (lambda d: hole(d, start_of(d, 2), start_of(d, 4)), "a hole of zeros"),
    "a hole of one header": (lambda d: hole(d, start_of(d, 2), start_of(d, 2) + BLOCK), "but more follows at byte"),
    "text at the end": (lambda d: d + b"and this\n", "but more follows at byte"),
    "text in place of the end": (lambda d: d[: end(d)] + b"and this" * 200, "no header at byte"),
    "one byte at the very end": (lambda d: d[:-1] + b"x", "but more follows at byte"),
    "no end mark": (lambda d: d[: end(d)], "without an end mark"),
    "half of a block for an end": (lambda d: d[: end(d) + 100], "without an end mark"),
    "cut at a member": (lambda d: d[: start_of(d, 4)], "without an end mark"),
    "cut in padding": (lambda d: d[: end(d) - 10], "no intact tar"),
    "cut in a header": (lambda d: d[: start_of(d, 4) + 100], "no header at byte"),
    "cut in the zeros of a header": (lambda d: d[: start_of(d, 4)] + bytes(100), "without an end mark"),
    "half fetched, the rest zeros": (lambda d: d[: start_of(d, 4)] + bytes(1 << 20), "more than a tar ends with"),
}  # fmt: skip


@pytest.mark.parametrize("in_place", [False, True], ids=["pack", "in-place"])
@pytest.mark.parametrize("how", WRONG)
def test_half_a_tar_is_refused(tmp_path, monkeypatch, capsys, how, in_place):
    path = write_shard(tmp_path / "in/train-000000.tar", [sample(n) for n in range(NUM)])
    change, says = WRONG[how]
    path.write_bytes(change(path.read_bytes()))
    args = [
        "--source",
        "webdataset",
        "--root",
        str(tmp_path / "in"),
        "--out",
        str(tmp_path / "out"),
    ]
    status, _, errors = shard(monkeypatch, capsys, *args, *(["--in-place"] if in_place else []))
    assert (status, errors.count("\n")) == (2, 1)
    assert says in errors
    assert str(path) in errors
    assert not (tmp_path / "out").exists()


RIGHT = {
    "as it is": lambda d: d,
    "two blocks and no padding": lambda d: d[: end(d) + 2 * BLOCK],
    "one block": lambda d: d[: end(d) + BLOCK],
    "cut in the padding of the end": lambda d: d[: end(d) + 3 * BLOCK + 7],
    "padded to 10,240 once more": lambda d: d[: end(d)] + bytes(10_240 + BLOCK),
}


@pytest.mark.parametrize("how", RIGHT)
def test_a_whole_tar_is_read(tmp_path, how):
    path = write_shard(tmp_path / "train-000000.tar", [sample(n) for n in range(NUM)])
    path.write_bytes(RIGHT[how](path.read_bytes()))
    assert len(WebDataset(tmp_path).records("train")) == NUM


def test_the_remedy_of_a_missing_end_mark_works(tmp_path):
    path = write_shard(tmp_path / "train-000000.tar", [sample(n) for n in range(NUM)])
    path.write_bytes(path.read_bytes()[: end(path.read_bytes())])
    with pytest.raises(DataError) as caught:
        WebDataset(tmp_path)
    _, _, command = str(caught.value).partition("add the mark with: ")
    subprocess.run(command.split(), cwd=tmp_path, check=True)
    assert len(WebDataset(tmp_path).records("train")) == NUM


@pytest.mark.skipif(shutil.which("tar") is None, reason="no tar program")
@pytest.mark.parametrize("form", ["gnu", "ustar", "pax"])
def test_what_the_tar_program_writes_is_read(tmp_path, form):
    files = tmp_path / "files"
    files.mkdir()
    for number in range(NUM):
        made = sample(number)
        (files / f"{number}.jpg").write_bytes(made["jpg"])
        (files / f"{number}.cls").write_text(str(made["cls"]))
    names = sorted(path.name for path in files.iterdir())
    subprocess.run(
        ["tar", f"--format={form}", "-C", files, "-cf", tmp_path / "a.tar", *names], check=True
    )
    assert len(WebDataset(tmp_path).records("all")) == NUM


def test_verify_finds_half_a_tar_that_was_indexed_before(tmp_path, monkeypatch, capsys):
    """A set that an earlier release indexed in place: its index agrees with the tar, which goes on
    after its end.
    """
    path = write_shard(tmp_path / "in/train-000000.tar", [sample(n) for n in range(NUM)])
    path.write_bytes(path.read_bytes() + path.read_bytes())
    args = in_place(tmp_path / "in", tmp_path / "out")
    with monkeypatch.context() as earlier:
        earlier.setattr("preprocess.sources.foreign_tar._check_end", lambda path, at, size: None)
        status, _, errors = shard(monkeypatch, capsys, *args)
    assert status == 0, errors
    with pytest.raises(SystemExit) as left:
        verify([str(tmp_path / "out"), "--workers", "1"])
    assert left.value.code == 1
    assert "several tars in one file" in capsys.readouterr().out
