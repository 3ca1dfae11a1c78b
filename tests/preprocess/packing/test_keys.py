"""Sample keys: what they may hold, and that none is shared."""

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preprocess.packing.keys import sample_key

NAMES = st.text(min_size=1)


@given(NAMES)
def test_key_is_short_and_safe(name):
    key = sample_key(name)
    assert 1 <= len(key) <= 64
    assert re.fullmatch(r"[A-Za-z0-9_%~-]+", key)


@given(NAMES)
def test_short_key_can_be_undone(name):
    key = sample_key(name)
    if "~" not in key:
        assert unquote(key) == name


@given(st.lists(NAMES, unique=True, max_size=30))
def test_different_names_get_different_keys(names):
    assert len({sample_key(name) for name in names}) == len(names)


@given(st.text(min_size=65), st.text(min_size=1))
def test_long_names_are_not_cut(name, more):
    assert sample_key(name) != sample_key(name + more)


def test_examples():
    assert sample_key("2008_000053") == "2008_000053"
    assert sample_key("a.b/c") == "a%2Eb%2Fc"
    assert sample_key("é") == "%C3%A9"
    assert sample_key("x" * 64) == "x" * 64
    assert re.fullmatch(r"x{47}~[0-9a-f]{16}", sample_key("x" * 65))


def test_a_file_name_that_is_no_utf8_has_a_key():
    assert sample_key("\udcff") != sample_key("\ufffd")


def test_empty_name_is_refused():
    with pytest.raises(ValueError, match="needs a name"):
        sample_key("")
