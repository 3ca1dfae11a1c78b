"""Names of records: short, each its own."""

import pytest

from preprocess.reading.paths import short_names


@pytest.mark.parametrize(
    ("sources", "names"),
    [
        (["cat/a.jpg", "cat/b.png", "dog/a.jpg"], ["cat/a", "cat/b", "dog/a"]),
        (["a.jpg", "a.png", "b.1.jpg", "c"], ["a.jpg", "a.png", "b.1", "c"]),
        (["a.jpg", "a.jpg.png"], ["a", "a.jpg"]),
        (["a.jpg", "a.png", "a.jpg.png"], ["a.jpg", "a.png", "a.jpg.png"]),
        (["a.gif", "a.gif.jpg", "a.gif.jpg.png", "a.png"], None),
        (["a", "a.jpg", "a.jpg.bmp"], None),
        ([".jpg", "v1.0/a", "v1.0/b", "v1"], [".jpg", "v1.0/a", "v1.0/b", "v1"]),
        ([], []),
    ],
)
def test_every_name_is_its_own(sources, names):
    found = short_names(sources)
    assert found == (sources if names is None else names)
    assert len(set(found)) == len(sources)
