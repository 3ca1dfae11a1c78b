"""Plain data comes out of a pickle as Python reads it; nothing else does, and nothing runs."""

import os
import pickle
import random

import numpy as np
import pytest

from preprocess.sources.unpickle import MAX_OPCODES, UnpickleError, unpickle

# As Python 2's cPickle writes {'labels': [3, 300], 'data': numpy.array([[1, 2], [3, 4]], 'uint8'),
# 'n': None}.
PYTHON_2 = (
    b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03(K\x03M,\x01eU\x04dataq\x04cnumpy.core.multiarray\n_reconstruct\nq\x05"
    b"cnumpy\nndarray\nq\x06K\x00\x85q\x07U\x01bq\x08\x87q\x09Rq\x0a(K\x01K\x02K\x02\x86q\x0bcnumpy\ndtype\nq\x0c"
    b"U\x02u1q\x0dK\x00K\x01\x87q\x0eRq\x0f(K\x03U\x01|q\x10NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tq\x11b\x89"
    b"U\x04\x01\x02\x03\x04q\x12tq\x13bU\x01nq\x14Nu."
)
PLAIN = {
    b"batch_label": b"testing batch 1 of 1",
    "labels": [0, 255, 256, 70_000, -1, 10**12, True, False, None],
    "nested": [(), ("a",), (1, 2), (1, 2, 3), (1, 2, 3, 4), [[]], {}, {"k": [b"\x00\xff" * 200]}],
    "text": "Grüße \u2603" * 100,
}


def test_python_2_wrote_text_as_bytes():
    found = unpickle(PYTHON_2)
    assert found[b"labels"] == [3, 300]
    assert found[b"n"] is None
    np.testing.assert_array_equal(found[b"data"], np.array([[1, 2], [3, 4]], np.uint8))
    np.testing.assert_array_equal(found[b"data"], pickle.loads(PYTHON_2, encoding="bytes")[b"data"])


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_plain_data_is_what_python_reads(protocol):
    assert unpickle(pickle.dumps(PLAIN, protocol)) == PLAIN
    array = np.random.default_rng(0).integers(0, 256, (300, 7), dtype=np.uint8)
    found = unpickle(pickle.dumps({"data": array, "again": [array, array]}, protocol))
    for each in (found["data"], *found["again"]):
        np.testing.assert_array_equal(each, array)


class Runs:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_nothing_runs(protocol, tmp_path):
    victim = tmp_path / "victim"
    for evil in (
        Runs(os.mkdir, str(victim)),
        Runs(eval, f"open({str(victim)!r}, 'w')"),
        Runs(os.getcwd),
    ):
        for hidden in (evil, {"data": evil}, [evil], {"data": np.array([evil], object)}):
            with pytest.raises(UnpickleError):
                unpickle(pickle.dumps(hidden, protocol))
    assert not victim.exists()


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(3, np.float32),
        np.zeros(3, "O"),
        np.asfortranarray(np.zeros((2, 2), np.uint8)),
        np.float64(1),
        {1},
        1.5,
    ],
    ids=str,
)
def test_other_kinds_are_refused(value):
    with pytest.raises(UnpickleError):
        unpickle(pickle.dumps({"data": value}, 2))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b".",
        b"\x80\x02",
        b"\x80\x02N",  # no end
        b"\x80\x02NN.",
        b"\x80\x02).\x00",  # fine up to here; what follows is not looked at
        b"\x80\x02T\xff\xff\xff\x7fshort.",  # claims 2 GB
        b"\x80\x02r\xff\xff\xff\x7f.",  # a memo of 16 GB in Python's own unpickler
        b"\x80\x04\x96\xff\xff\xff\xff\xff\xff\xff\x0f.",  # a bytearray of 2**60
        b"\x80\x02h\x05.",  # from an empty memo
        b"\x80\x02]K\x01K\x02u.",
        b"\x80\x02K\x01K\x02e.",
        b"\x80\x02}(]K\x01u.",  # a list as a key
        b"\x80\x02c__builtin__\neval\nU\x011\x85R.",
        b"\x80\x02cnumpy\ndtype\nU\x01O\x85R.",
        b"\x80\x02cnumpy\ndtype\n}U\x04evilK\x01sb.",  # a state for a name
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n)R(K\x01J\xff\xff\xff\x7f\x85NK\x00U\x00tb.",
        b"\x80\x02" + b"(" * 100_000 + b".",
    ],
)
def test_odd_bytes_are_refused_in_one_line(data):
    if data == b"\x80\x02).\x00":
        assert unpickle(data) == ()
        return
    with pytest.raises(UnpickleError, match=r"^[^\n]*$"):
        unpickle(data)


def test_no_bomb_goes_off():
    """A maze of lists, whose text would be endless, where a name or a callable belongs; a text made
    a million times.
    """
    maze = b"]q\x00" + b"".join(
        b"](h" + bytes([n]) + b"h" + bytes([n]) + b"eq" + bytes([n + 1]) for n in range(60)
    )
    for data in (
        maze + b"U\x01a\x93.",
        maze + b")R.",
        maze + b"}b.",
        maze + b"}(h\x3cK\x01u.",
        maze + b"\x85K\x01R.",
    ):
        with pytest.raises(UnpickleError):
            unpickle(b"\x80\x04" + data)
    pairs = b"K\x00\x85q\x00" + b"".join(
        b"h" + bytes([n]) + b"\x86q" + bytes([n + 1]) for n in range(60)
    )
    # Python would hash 2**60 numbers
    with pytest.raises(UnpickleError, match="keys that are no text"):
        unpickle(b"\x80\x02}(" + pairs + b"K\x01u.")
    text = (
        b"c_codecs\nencode\nq\x00X\x10\x27\x00\x00"
        + b"a" * 10_000
        + b"q\x01X\x06\x00\x00\x00latin1q\x02("
    )
    with pytest.raises(UnpickleError, match="call of another kind"):
        unpickle(b"\x80\x02" + text + b"h\x00h\x01h\x02\x86R" * 1_000 + b"t.")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_damaged_pickles_never_raise_anything_else():
    whole = pickle.dumps(
        {"data": np.arange(12, dtype=np.uint8).reshape(3, 4), "labels": [1, 2, 3]}, 2
    )
    rng, refused = random.Random(0), 0
    for _ in range(5_000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            unpickle(bytes(data[: rng.randint(len(data) // 2, len(data))]))
        except UnpickleError:
            refused += 1
    assert refused > 2_500


def test_a_file_of_nothing_but_small_things_is_refused():
    with pytest.raises(UnpickleError, match=f"more than {MAX_OPCODES:,} opcodes"):
        unpickle(b"\x80\x02(" + b"}" * MAX_OPCODES + b"t.")
