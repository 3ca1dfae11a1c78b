"""Tables as people have them: labels are read as they are meant, or refused with a line, never in
pieces.
"""

import csv
import io
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from preprocess.sources.csvtable import CSV
from shards.errors import DataError
from tests.conftest import jpeg, photograph
from tests.preprocess.commands import shard

MEANT = [["cat", "dog"], ["cat"], ["dog", "bird"], ["bird"], [], ["cat", "dog", "bird"]]
PHRASES = [
    ["traffic light", "dog"],
    ["dog"],
    ["traffic light"],
    ["stop sign", "traffic light"],
    [],
    ["dog", "stop sign"],
]


def write(root: Path, cells: list[str], header: str = "labels", name: str = "labels.csv") -> Path:
    """Write a table of one photograph per cell."""
    (root / "img").mkdir(parents=True, exist_ok=True)
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(["path", header])
    for number, cell in enumerate(cells):
        path = root / f"img/{number}.jpg"
        if not path.exists():
            path.write_bytes(jpeg(photograph(32, 24, number)))
        rows.writerow([f"img/{number}.jpg", cell])
    (root / name).write_text(text.getvalue(), encoding="utf-8", newline="")
    return root


def read(root: Path, **options) -> list[set[str]]:
    source = CSV(root, **options)
    return [
        {source.class_names[label] for label in record.labels} for record in source.records("all")
    ]


def refusal(root: Path, **options) -> str:
    """Return the one line that refuses a table."""
    with pytest.raises(DataError) as caught:
        read(root, **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def numpy_list(names: list[str]) -> str:
    return str(np.array(names, dtype=object))


def braces(names: list[str]) -> str:
    return "{" + ",".join(f'"{name}"' if " " in name else name for name in names) + "}"


WAYS = {
    "pipe": "|".join,
    "spaced pipe": " | ".join,
    "comma": ",".join,
    "spaced comma": ", ".join,
    "semicolon": ";".join,
    "spaced semicolon": "; ".join,
    "tab": "\t".join,
    "closed by a separator": lambda names: "".join(f"{name};" for name in names),
    "python": lambda names: str(names),
    "json": lambda names: "[" + ", ".join(f'"{name}"' for name in names) + "]",
    "tuple": lambda names: str(tuple(names)),
    "set": lambda names: "{" + ", ".join(f"'{name}'" for name in names) + "}" if names else "set()",
    "frozenset": lambda names: f"frozenset({names})",
    "numpy": numpy_list,
    "array": lambda names: f"array({names}, dtype=object)",
    "numpy scalars": lambda names: "[" + ", ".join(f"np.str_('{name}')" for name in names) + "]",
    "python 2": lambda names: "[" + ", ".join(f"u'{name}'" for name in names) + "]",
    "wide semicolon": "\uff1b".join,
    "wide comma": "\uff0c".join,
    "ideographic comma": "\u3001".join,
    "quoted": lambda names: ", ".join(f"'{name}'" for name in names),
    "postgres": braces,
    "bare list": lambda names: "[" + ", ".join(names) + "]",
    "spaced list": lambda names: " [ " + " , ".join(f"'{name}'" for name in names) + " ] ",
}


@pytest.mark.parametrize("meant", [MEANT, PHRASES], ids=["words", "phrases"])
@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_write_several_labels(tmp_path, way, meant):
    cells = [WAYS[way](names) for names in meant]
    assert read(write(tmp_path, cells)) == [set(names) for names in meant]


def test_words_between_spaces(tmp_path):
    assert read(write(tmp_path, [" ".join(names) for names in MEANT])) == [
        set(names) for names in MEANT
    ]


CERTAIN = {
    "pipes and a class of two words": [
        "Mass",
        "Mass|Edema",
        "No Finding",
        "Hernia|Edema",
        "No Finding",
        "Mass",
    ],
    "no single label": ["cat|dog", "dog|bird", "cat|bird", "bird|dog", "cat|dog|bird", "cat|dog"],
    "no single label, commas": [
        "cat,dog",
        "dog,bird",
        "cat,bird",
        "bird,dog",
        "cat,dog,bird",
        "cat,dog",
    ],
    "one pipe in all": ["Mass|Edema", "No Finding", "Clear"],
    "both orders": ["cat dog", "dog cat", "ant bee"],
    "numbers": ["3,17", "17", "3", "4,17,3"],
    "bare numbers": ["3 17", "17", "3"],
    "lists of numbers": ["[3, 17]", "[17]", "[]"],
    "a comma at the end": ["cat,", "dog"],
    "one label each": ["cat", "dog", "red_fox", "t-shirt", "3.5mm jack".replace(" ", "_")],
    "planet": [
        "agriculture clear primary water",
        "clear primary",
        "haze primary",
        "clear primary road",
        "cloudy",
        "agriculture primary road water",
    ],
}


@pytest.mark.parametrize("name", CERTAIN)
def test_what_is_certain_is_read(tmp_path, name):
    cells = CERTAIN[name]
    found = read(write(tmp_path, cells))
    separators = "|" if "pipe" in name or "|" in cells[0] else ", []"
    if name == "one label each":
        separators = "\0"
    table = str.maketrans(dict.fromkeys(separators, "\0"))
    assert found == [{part for part in cell.translate(table).split("\0") if part} for cell in cells]


UNSURE = {
    "phrases": ["traffic light", "car", "stop sign", "car", "traffic light"],
    "a phrase that holds a class": ["hot dog", "dog", "teddy bear", "bear", "car"],
    "phrases that share words": ["grey wolf", "red wolf", "red fox", "grey fox", "kit fox"],
    "plants and their state": ["apple healthy", "apple scab", "tomato healthy", "tomato blight"],
    "one cell": ["cat dog"],
    "names with commas": [
        "tench, Tinca tinca",
        "goldfish, Carassius auratus",
        "great white shark, white shark",
    ],
    "two separators": ["cat|dog", "cat,dog"],
    "three separators": ["a|b", "a;b", "a,b"],
    "slashes": ["cat/dog", "cat", "dog"],
    "slashes without single labels": ["cat/dog", "dog/bird", "bird/cat"],
    "plus signs": ["cat+dog", "cat", "dog"],
    "underscores": ["cat_dog", "cat", "dog"],
    "and": ["cat and dog", "dog", "cat", "bird and cat"],
    "ampersand": ["cat & dog", "dog", "cat", "bird & cat"],
    "a space among pipes": ["cat|dog", "cat dog", "cat", "dog"],
    "some lists": ["['cat', 'dog']", "cat", "dog"],
    "parentheses": ["(cat, dog)", "(cat)", "(dog)"],
    "a broken list": ["['cat', 'dog'", "['cat']"],
    "lists of lists": ["[['cat'], ['dog']]", "[['cat']]"],
    "dictionaries": ["{'cat': 1, 'dog': 0}", "{'cat': 0, 'dog': 1}"],
    "JSON objects": ['{"label": "cat"}', '{"label": "dog"}'],
    "bare lists without commas": ["[traffic light]", "[dog]"],
    "no second label": ["cat, dog", "fish"],
    "hyphens": ["cat-dog", "dog-bird", "bird-cat"],
    "pairs": ["cat:1 dog:0", "cat:0 dog:1"],
    "pairs with a separator": ["cat=1;dog=0", "cat=0;dog=1"],
    "a name with a score": ["dog: 0.9", "cat: 0.4"],
    "a wide space": ["\u732b\u3000\u72d7", "\u9ce5"],
    "nan among labels": ["cat", "dog", "nan", "cat|dog"],
    "NaN in a list": ["['cat', 'NaN']", "['dog']"],
    "a line break": ["cat\ndog", "cat", "dog"],
    "1 and 1.0": ["1", "1.0", "2"],
    "1 and 01": ["1", "01", "2"],
}


@pytest.mark.parametrize("name", UNSURE)
def test_what_is_unsure_is_asked(tmp_path, monkeypatch, capsys, name):
    write(tmp_path / "in", UNSURE[name])
    args = ["--source", "csv", "--root", str(tmp_path / "in"), "--out", str(tmp_path / "out")]
    status, _, errors = shard(monkeypatch, capsys, *args)
    assert (status, errors.count("\n")) == (2, 1), errors
    assert "labels.csv:" in errors
    assert not (tmp_path / "out").exists()


VECTORS = {
    "list": ["[1, 0, 0]", "[0, 1, 0]", "[1, 1, 0]", "[0, 0, 0]"],
    "of two classes": ["[1, 0]", "[0, 1]"],
    "of two classes, all": ["[1, 0]", "[0, 1]", "[1, 1]", "[0, 0]"],
    "spaces": ["1 0 1", "0 1 0"],
    "two, spaces": ["1 0", "0 1"],
    "commas": ["1,0,1", "0,1,0"],
    "spaced commas": ["1, 0", "0, 1"],
    "semicolons": ["1;0;1", "0;1;0"],
    "pipes": ["1|0", "0|1"],
    "joined": ["101", "010", "001"],
    "joined, of two": ["10", "01", "11"],
    "joined, no leading zero": ["100", "101", "110"],
    "floats": ["[1.0, 0.0]", "[0.0, 1.0]"],
    "numpy": ["[1. 0. 1.]", "[0. 1. 0.]"],
    "numpy integers": ["[1 0]", "[0 1]"],
    "array": ["array([1, 0])", "array([0, 1])"],
    "truths": ["[True, False]", "[False, True]"],
    "truths of JSON": ["[true, false]", "[false, true]"],
    "scores": ["[0.1, 0.9]", "[0.7, 0.3]"],
    "minus ones": ["[1, -1]", "[-1, 1]"],
    "minus ones and zeros": ["-1 0 1", "1 1 0"],
    "strings": ["['1', '0']", "['0', '1']"],
    "counts": ["[2, 0, 0]", "[0, 1, 1]"],
    "a blank between": ["1 0", "", "0 1"],
    "a single row": ["1 0 0 0"],
    "tuples": ["(1, 0)", "(0, 1)"],
}


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_are_no_labels(tmp_path, name):
    assert "is a vector of numbers" in refusal(write(tmp_path, VECTORS[name]))


@pytest.mark.parametrize(
    ("name", "separator"),
    [
        ("spaces", " "),
        ("two, spaces", " "),
        ("commas", ","),
        ("spaced commas", ","),
        ("semicolons", ";"),
        ("pipes", "|"),
    ],
)
def test_vectors_are_no_labels_by_any_separator(tmp_path, name, separator):
    assert "is a vector of numbers" in refusal(
        write(tmp_path, VECTORS[name]), label_separator=separator
    )


@pytest.mark.parametrize("name", ["list", "spaces", "commas", "floats", "numpy"])
def test_vectors_are_no_classes_of_one_label(tmp_path, name):
    refusal(write(tmp_path, VECTORS[name]), task="multiclass")


@pytest.mark.parametrize(
    ("cells", "options", "meant"),
    [
        (["traffic light", "car"], {"label_separator": "none"}, [{"traffic light"}, {"car"}]),
        (["traffic light", "car"], {"task": "multiclass"}, [{"traffic light"}, {"car"}]),
        (["cat dog", "dog"], {"label_separator": "space"}, [{"cat", "dog"}, {"dog"}]),
        (["cat dog", "dog"], {"label_separator": " "}, [{"cat", "dog"}, {"dog"}]),
        (["cat\ndog", "dog"], {"label_separator": "newline"}, [{"cat", "dog"}, {"dog"}]),
        (
            ["tench, Tinca tinca", "cat"],
            {"label_separator": "none"},
            [{"tench, Tinca tinca"}, {"cat"}],
        ),
        (["tench, Tinca", "cat"], {"label_separator": ","}, [{"tench", "Tinca"}, {"cat"}]),
        (["a|b", "a,b"], {"label_separator": "|"}, [{"a", "b"}, {"a,b"}]),
        (["[unknown]", "cat"], {"label_separator": "none"}, [{"[unknown]"}, {"cat"}]),
        (["[unknown]", "cat"], {"task": "multiclass"}, [{"[unknown]"}, {"cat"}]),
        (["cat/dog", "cat", "dog"], {"label_separator": "/"}, [{"cat", "dog"}, {"cat"}, {"dog"}]),
        (["cat_dog", "cat", "dog"], {"label_separator": "none"}, [{"cat_dog"}, {"cat"}, {"dog"}]),
        (["3", "2"], {"task": "multiclass"}, [{"3"}, {"2"}]),
        (["10", "11"], {"task": "multiclass"}, [{"10"}, {"11"}]),
        (["0", "1"], {}, [{"0"}, {"1"}]),
    ],
)
def test_what_the_flags_say_counts(tmp_path, cells, options, meant):
    assert read(write(tmp_path, cells), **options) == meant


@pytest.mark.parametrize(
    ("cells", "options", "says"),
    [
        (
            ["traffic light", "car"],
            {},
            "labels.csv:2: 'traffic light' may be one label or 2; give --label-sep",
        ),
        (["traffic light", "car"], {}, "--label-separator space if it is 'traffic' and 'light'"),
        (["a|b", "a,b"], {}, "separated by '|' in 'a|b', by ',' in 'a,b' at"),
        (
            ["a & b", "a", "b"],
            {},
            "'&' is between the labels in 'a & b'; give --label-separator '&'",
        ),
        (
            ["['a']", "['b']"],
            {"label_separator": ","},
            "is a list, as every cell is; leave --label-separator out",
        ),
        (["['a']", "['b']"], {"task": "multiclass"}, "is a list; give --task multilabel"),
        (["a\nb", "a"], {}, "has a line break; is a quote missing?"),
        (["[1, 0]", "[0, 1]"], {}, "--label-columns"),
    ],
)
def test_the_line_names_the_flag(tmp_path, cells, options, says):
    assert says in refusal(write(tmp_path, cells), **options)


def test_two_unicode_forms_are_one_class(tmp_path):
    nfc, nfd = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    source = CSV(write(tmp_path, [nfc, nfd, f"{nfc}|{nfd}", "tea"]))
    assert source.class_names == (nfc, "tea")
    assert [record.labels for record in source.records("all")] == [(0,), (0,), (0,), (1,)]


def test_spaces_inside_a_name(tmp_path):
    found = read(write(tmp_path, ["traffic  light|car", "traffic\u00a0light"]))
    assert found == [{"traffic light", "car"}, {"traffic light"}]


def test_a_quote_that_nobody_closed(tmp_path):
    write(tmp_path, ["cat"] * 6)
    rows = [f"img/{number}.jpg,cat,note" for number in range(6)]
    rows[1] = 'img/1.jpg,cat,"a note'
    rows[4] = 'img/4.jpg,cat,the end"'
    (tmp_path / "labels.csv").write_text("\n".join(["path,labels,note", *rows]) + "\n")
    assert "labels.csv:6: the cell 'a note" in refusal(tmp_path)
    rows[1], rows[4] = 'img/1.jpg,cat,"a note,\non two lines"', "img/4.jpg,cat,"
    (tmp_path / "labels.csv").write_text("\n".join(["path,labels,note", *rows]) + "\n")
    assert read(tmp_path) == [{"cat"}] * 6


@pytest.mark.parametrize(
    ("encoding", "says"),
    [
        ("utf-16", "it is UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("latin-1", "is no UTF-8 text"),
        ("cp1252", "iconv"),
    ],
)
def test_other_encodings_get_a_line(tmp_path, encoding, says):
    write(tmp_path, ["café", "tea"])
    (tmp_path / "labels.csv").write_bytes((tmp_path / "labels.csv").read_text().encode(encoding))
    assert says in refusal(tmp_path)


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    write(tmp_path, ["cat", "dog"])
    (tmp_path / "labels.csv").write_text(
        (tmp_path / "labels.csv").read_text(), encoding="utf-8-sig"
    )
    assert read(tmp_path) == [{"cat"}, {"dog"}]


def test_describe_says_what_was_taken(tmp_path):
    write(tmp_path, ["cat|dog", "cat", "No Finding"])
    assert CSV(tmp_path).describe() == ["labels: column 'labels', separated by '|', of labels.csv"]
    write(tmp_path, ["['cat']", "['dog', 'cat']"])
    assert CSV(tmp_path).describe() == ["labels: column 'labels', written as lists, of labels.csv"]
    (tmp_path / "labels.csv").write_text(
        "path,labels,split\nimg/0.jpg,cat,train\nimg/1.jpg,dog,val\n"
    )
    assert CSV(tmp_path).describe() == [
        "labels: column 'labels', one a cell, of labels.csv",
        "splits: column 'split'",
    ]
