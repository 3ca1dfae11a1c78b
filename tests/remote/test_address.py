"""Addresses: what is one, and which are refused without showing what is secret in them."""

import pytest

from shards.choices import check_location
from shards.errors import DataError
from shards.remote.address import Address, is_url

SECRETS = [
    "https://user:planted-secret@host/voc",
    "https://planted-secret@host/voc",
    "s3://AKIA:planted-secret@bucket/voc",
    "https://host/voc?X-Amz-Signature=planted-secret",
    "https://host/voc?token=planted-secret#x",
    "https://host/voc#planted-secret",
    "https://host?sig=planted-secret",
    "abfs://user:planted-secret@account/voc",
    "simplecache::https://host/voc?planted-secret",
    "https://host/planted-secret::s3://bucket/voc",
]


@pytest.mark.parametrize("url", SECRETS)
def test_a_secret_in_an_address_is_refused_and_not_shown(url):
    with pytest.raises(DataError) as caught:
        check_location(url, "", 0)
    assert "planted-secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://host/../voc",
        "https://host/a/./voc",
        "https://host//voc",
        "https:///voc",
        "s3://",
        "https://ho st/voc",
        "https://host/a\r\nHeader: x",
        "https://host/a\\b",
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(DataError):
        Address.parse(url)


@pytest.mark.parametrize("path", ["data/voc", "/data/voc", "C:/voc", "a:b", "c://voc", "."])
def test_a_folder_is_no_address(path):
    assert not is_url(path)


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket/voc",
        "gs://bucket",
        "hf://datasets/user/name@main/voc",
        "abfs://container@account.dfs.core.windows.net/voc",
        "file:///data/voc",
        "memory://voc",
        "https://host:8443/voc 2012/café",
    ],
)
def test_an_address_is_kept_as_it_was_given(url):
    address = Address.parse(f"{url}/")
    assert str(address) == url
    assert str(address / "train") == f"{url}/train"
    assert (address / "train").parent == address
    assert (address / "train").name == "train"


def test_a_cache_of_a_folder_is_refused():
    with pytest.raises(DataError, match="cache_dir and cache_gb are for data by address"):
        check_location("data/voc", "cache", 0)
    check_location("", "cache", 0)  # of evaluation: the checkpoint names the data
