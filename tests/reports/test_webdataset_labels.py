"""Labels in tars of other writers: vectors, gaps, arrays and lists in text are refused, never taken
for classes.
"""

import io
import pickle
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from preprocess.sources.webdataset import WebDataset
from shards.errors import DataError
from tests.preprocess.commands import shard
from tests.preprocess.foreign import sample, write_shard
from tests.preprocess.sources.test_webdataset import add_by_hand

FORMS = tuple(unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
ARRAYS = ("npy", "npz", "pyd", "pickle", "pkl", "pth", "ten", "msgpack", "cbor", "labels.npy")


def jsons(root: Path, values: list, key: str = "labels") -> Path:
    """Write a shard of samples with JSON members."""
    write_shard(
        root / "train-000000.tar", [sample(n, json={key: value}) for n, value in enumerate(values)]
    )
    return root


def texts(root: Path, values: list) -> Path:
    """Write a shard of samples with `cls` members."""
    contents = [value if isinstance(value, bytes) else str(value).encode() for value in values]
    write_shard(
        root / "train-000000.tar", [sample(n, cls=content) for n, content in enumerate(contents)]
    )
    return root


def read(root: Path, **options) -> list[set[str]]:
    source = WebDataset(root, **options)
    return [
        {source.class_names[label] for label in record.labels} for record in source.records("train")
    ]


def refusal(root: Path, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(root, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


VECTORS = {
    "of two": [[1, 0], [0, 1]],
    "of two, one kind": [[1, 0], [1, 0]],
    "of two, all": [[1, 0], [0, 1], [1, 1], [0, 0]],
    "of two, and one without": [[1, 0], [], [0, 1]],
    "of three": [[1, 0, 0], [0, 1, 0]],
    "of floats": [[1.0, 0.0], [0.0, 1.0]],
    "of truths": [[True, False], [False, True]],
    "of strings": [["1", "0"], ["0", "1"]],
    "of scores": [[0.2, 0.8], [0.9, 0.1]],
    "with minus one": [[1, -1], [-1, 1]],
    "of one float": [[1.0], [0.0]],
    "mixed": [[1, 0.5], [0, 1]],
}


@pytest.mark.parametrize("classes", [False, True], ids=["no list", "class list"])
@pytest.mark.parametrize("name", VECTORS)
def test_vectors_are_refused(tmp_path, monkeypatch, capsys, name, classes):
    jsons(tmp_path / "in", VECTORS[name])
    (tmp_path / "in/classes.txt").write_text("cat\ndog\n")
    args = [
        "--source",
        "webdataset",
        "--root",
        str(tmp_path / "in"),
        "--out",
        str(tmp_path / "out"),
    ]
    status, _, errors = shard(
        monkeypatch, capsys, *args, *(["--class-list", "classes.txt"] if classes else [])
    )
    assert (status, errors.count("\n")) == (2, 1)
    assert "train-000000.tar: sample photo000" in errors
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "values", [[[0, 1], [1], [0]], [[0, 1], [], [1]], [[1, 0], [2, 0], [0]], [[0], [1]]]
)
def test_lists_of_class_numbers_are_none(tmp_path, values):
    assert read(jsons(tmp_path, values)) == [set(map(str, numbers)) for numbers in values]


def test_two_class_numbers_of_more_classes(tmp_path):
    jsons(tmp_path, [[0, 1], [0, 1]])
    (tmp_path / "classes.txt").write_text("cat\ndog\nbird\n")
    assert read(tmp_path, class_list="classes.txt") == [{"cat", "dog"}] * 2


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            [0, 7, 90000],
            "class numbers go up to 90,000, but only 3 occur (0, 7, 90000), so most classes would "
            "have no",
        ),
        (
            [0, 7],
            "give the names of all with --class-list, or number the classes from 0 without gaps",
        ),
        ([281, 282, 285], "class numbers go up to 285"),
        ([-1, 0, 1], "label -1 is no class number; use 0 to 99,999"),
        ([0, 1, 100_000], "label 100000 is no class number"),
    ],
)
@pytest.mark.parametrize("kind", ["cls", "json", "lists"])
def test_numbers_that_name_no_classes(tmp_path, values, says, kind):
    if kind == "cls":
        texts(tmp_path, values)
    else:
        jsons(tmp_path, values if kind == "json" else [[value] for value in values])
    assert says in refusal(tmp_path)


def test_numbers_with_gaps_and_names_for_them(tmp_path):
    texts(tmp_path, [0, 7, 3])
    (tmp_path / "classes.txt").write_text("".join(f"class{number}\n" for number in range(9)))
    assert read(tmp_path, class_list="classes.txt") == [{"class0"}, {"class7"}, {"class3"}]


def test_numbers_with_a_small_gap(tmp_path):
    source = WebDataset(texts(tmp_path, [1, 2, 4]))
    assert source.class_names == ("0", "1", "2", "3", "4")
    lines = [
        "labels: members .cls, one class each",
        "classes: numbers 0 to 4, of which 0, 3 on no image",
    ]
    assert source.describe() == lines


NO_CLASS = {
    "a list": b"[1, 0]",
    "a vector": b"1 0 0",
    "a vector with commas": b"1,0,0",
    "a list of names": b"['cat', 'dog']",
    "JSON": b'{"label": 3}',
    "a fraction": b"3.0",
    "a truth": b"True",
    "a tensor": b"tensor(3)",
    "numpy's number": b"np.int64(3)",
    "an array": b"array([3])",
    "bytes of a number": (3).to_bytes(8, "little"),
    "a pickle of text": pickle.dumps([1, 0], protocol=0),
    "a pickle": pickle.dumps([1, 0]),
    "nothing": b"",
    "white space": b" \n ",
    "two lines": b"cat\ndog",
    "not UTF-8": "é".encode("latin-1"),
    "UTF-16": "cat".encode("utf-16"),
}


@pytest.mark.parametrize("name", NO_CLASS)
def test_text_that_is_no_class(tmp_path, name):
    assert "train-000000.tar: sample photo0000" in refusal(texts(tmp_path, [NO_CLASS[name]] * 2))


@pytest.mark.parametrize(
    "name", ["a list", "a vector", "a list of names", "a fraction", "a tensor", "white space"]
)
@pytest.mark.parametrize("listed", [False, True])
def test_json_strings_that_are_no_class(tmp_path, name, listed):
    text = NO_CLASS[name].decode()
    assert "train-000000.tar: sample photo0000" in refusal(
        jsons(tmp_path, [[text] if listed else text] * 2)
    )


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"cat": 1, "dog": 0},
        [None],
        [[1, 2]],
        [{"label": "cat"}],
        3.0,
        True,
        "",
        [""],
        float("nan"),
        [float("nan")],
    ],
)
def test_json_values_that_are_no_labels(tmp_path, value):
    assert "train-000000.tar: sample photo0000" in refusal(jsons(tmp_path, [value, value]))


@pytest.mark.parametrize(
    "values",
    [
        ["cat dog", "cat", "dog"],
        ["cat,dog", "cat", "dog"],
        ["cat, dog", "cat", "dog"],
        ["cat|dog", "cat", "dog"],
        ["cat;dog", "cat", "dog"],
        ["cat/dog", "cat", "dog"],
    ],
)
def test_several_labels_in_one_text(tmp_path, values):
    assert "is made of 'cat' and 'dog', labels of their own" in refusal(
        texts(tmp_path / "cls", values)
    )
    assert "is made of 'cat' and 'dog', labels of their own" in refusal(
        jsons(tmp_path / "json", values)
    )
    refusal(jsons(tmp_path / "lists", [[value] for value in values]))


@pytest.mark.parametrize(
    ("values", "meant"),
    [
        ([b"cat\n", b" cat ", b"\tdog\r\n"], ["cat", "cat", "dog"]),
        (
            [b"traffic light", b"traffic  light\n", b"dog"],
            ["traffic light", "traffic light", "dog"],
        ),
        (["\ufeffcat".encode(), b"cat", b"dog"], ["cat", "cat", "dog"]),
        ([b"hot dog", b"dog", b"tench, Tinca tinca"], ["hot dog", "dog", "tench, Tinca tinca"]),
        ([FORMS[0].encode(), FORMS[1].encode()], [FORMS[0]] * 2),
        ([b"0", b"01", b"+1"], ["0", "1", "1"]),
    ],
)
def test_text_that_is_one_class(tmp_path, values, meant):
    assert read(texts(tmp_path / "cls", values)) == [{name} for name in meant]


def test_names_in_json_are_tidied_too(tmp_path):
    nfc, nfd = FORMS
    assert read(jsons(tmp_path, [[f" {nfd} ", "a  b"], [nfc]])) == [{nfc, "a b"}, {nfc}]


def test_a_class_list_in_another_unicode_form(tmp_path):
    nfc, nfd = FORMS
    texts(tmp_path, [nfd, "tea"])
    (tmp_path / "classes.txt").write_text(f"tea\n{nfc}\n", encoding="utf-8")
    assert read(tmp_path, class_list="classes.txt") == [{nfc}, {"tea"}]


def test_an_empty_line_in_a_class_list_moves_no_number(tmp_path):
    texts(tmp_path, [0, 1])
    (tmp_path / "classes.txt").write_text("cat\n\ndog\n")
    text = refusal(tmp_path, class_list="classes.txt")
    assert "classes.txt has an empty line, and class numbers count lines from 0" in text
    (tmp_path / "classes.txt").write_text("\ncat\ndog\n")
    assert "classes.txt has an empty line" in refusal(tmp_path, class_list="classes.txt")
    (tmp_path / "classes.txt").write_text("cat\r\ndog\r\n\r\n")
    assert read(tmp_path, class_list="classes.txt") == [{"cat"}, {"dog"}]


def test_digits_as_names_are_sorted_as_numbers(tmp_path):
    assert WebDataset(jsons(tmp_path, [["10"], ["2"], ["1"]])).class_names == ("1", "2", "10")


class Bomb:
    def __reduce__(self):
        return (print, ("code of a stranger has run",))


def array(value) -> bytes:
    file = io.BytesIO()
    np.save(file, np.array(value, dtype=object), allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize("suffix", ARRAYS)
@pytest.mark.parametrize("asked", [False, True])
def test_arrays_and_pickles_are_never_read(tmp_path, capsys, suffix, asked):
    content = array([Bomb()]) if suffix.endswith("npy") else pickle.dumps(Bomb())
    image = sample(0)["jpg"]
    add_by_hand(tmp_path / "train-000000.tar", [{"__key__": "a", "jpg": image, suffix: content}])
    text = refusal(tmp_path, **({"label_member": suffix} if asked else {}))
    assert "as .cls or .json" in text
    assert "stranger" not in capsys.readouterr().out


def test_labels_in_different_members(tmp_path):
    samples = [sample(0, cls=1), sample(1, json={"labels": 2}), sample(2, cls=0)]
    write_shard(tmp_path / "train-000000.tar", samples)
    assert "the labels of samples before it are in .cls" in refusal(tmp_path)


def test_a_key_twice_in_json(tmp_path):
    content = b'{"labels": ["cat"], "labels": ["dog"]}'
    add_by_hand(
        tmp_path / "train-000000.tar", [{"__key__": "a", "jpg": sample(0)["jpg"], "json": content}]
    )
    assert "is there twice" in refusal(tmp_path)


def test_the_layout_of_img2dataset_gets_a_line(tmp_path):
    """Captions and addresses, no labels."""
    meta = {
        "url": "http://x/1.jpg",
        "caption": "a cat",
        "key": "000000000",
        "status": "success",
        "width": 32,
    }
    made = [sample(n, txt=f"a photo of {n}", json=meta) for n in range(2)]
    write_shard(tmp_path / "00000.tar", made)
    with pytest.raises(
        DataError,
        match=r"has no key 'labels', it has 'url', 'caption', .*give one with --label-field",
    ):
        WebDataset(tmp_path)


def test_the_layout_of_imagenet_by_timm(tmp_path):
    """Samples of timm/imagenet-1k-wds: the number in .cls, and the same among other things in
    .json.
    """
    made = [
        sample(
            n,
            cls=n % 2,
            json={"label": n % 2, "width": 40, "height": 30, "filename": f"n01440764_{n}.JPEG"},
        )
        for n in range(4)
    ]
    write_shard(tmp_path / "imagenet1k-train-0000.tar", made)
    source = WebDataset(tmp_path)
    assert (source.task, [record.labels for record in source.records("train")]) == (
        "multiclass",
        [(0,), (1,)] * 2,
    )
    by_key = WebDataset(tmp_path, label_member="json", label_field="label")
    assert [record.labels for record in by_key.records("train")] == [(0,), (1,)] * 2


def test_describe_says_what_was_taken(tmp_path):
    jsons(tmp_path, [["cat"], ["dog", "cat"]], "tags")
    assert WebDataset(tmp_path, label_field="tags").describe() == [
        "labels: members .json, key 'tags', a list of classes each",
        "classes: names as found",
    ]
    (tmp_path / "names.txt").write_text("dog\ncat\n")
    assert (
        WebDataset(tmp_path, label_field="tags", class_list="names.txt").describe()[1]
        == "classes: names.txt"
    )
