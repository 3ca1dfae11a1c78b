"""The address of a dataset that is not on a disk here, such as https://host/voc or s3://bucket/voc."""

import re
from dataclasses import dataclass

from shards.errors import DataError

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+(?:::[A-Za-z][A-Za-z0-9+.-]+)*)://")
# A part of the host that names a container, not a user: abfs://container@account/...
_CONTAINERS = ("abfs", "abfss", "wasb", "wasbs", "adl")
_CREDENTIALS = (
    "credentials come from where fsspec looks for them: the environment, the cloud's own files, or "
    "~/.config/fsspec"
)


def is_url(text: object) -> bool:
    """Tell whether what a user gave for a dataset is an address rather than a folder."""
    return isinstance(text, Address) or _URL.match(str(text)) is not None


@dataclass(frozen=True)
class Address:
    """Where a dataset, a split or an object is. Used as a Path is where a name is built or shown."""

    url: str

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Check an address that a user gave. Raises DataError, which shows nothing of a secret."""
        match = _URL.match(text)
        assert match is not None, "is_url says no"
        scheme = match.group(1).lower()
        if "::" in scheme:
            raise DataError(f"{scheme}://...: chained addresses are not read: give a plain one")
        host, _, path = text[match.end() :].partition("/")
        user, at, host_alone = host.rpartition("@")
        shown = f"{scheme}://{host_alone.partition('?')[0].partition('#')[0]}/..."
        if at and (scheme not in _CONTAINERS or ":" in user):
            raise DataError(
                f"{shown}: the address holds a user name or a password: leave it out; {_CREDENTIALS}"
            )
        if "?" in text or "#" in text:
            raise DataError(
                f"{shown}: the address has a query (after ?) or a fragment (after #), where "
                f"signatures are: leave it out; {_CREDENTIALS}"
            )
        if "::" in text:
            raise DataError(f"{shown}: chained addresses are not read: give a plain one")
        if not text.isprintable() or " " in host or "\\" in text:
            raise DataError(f"{shown}: the address has characters that no address has")
        parts = path.rstrip("/").split("/")
        if ".." in parts or "." in parts or "" in parts[:-1]:
            raise DataError(f"{shown}: the address has an empty part, . or ..: spell it out")
        if not host and scheme not in ("file", "memory", "local"):
            raise DataError(f"{shown}: the address names no host or bucket")
        return cls(f"{scheme}://{host}/{path}".rstrip("/"))

    @property
    def scheme(self) -> str:
        """Name the protocol."""
        return self.url.partition("://")[0]

    @property
    def name(self) -> str:
        """Give the last part."""
        return self.url.partition("://")[2].rpartition("/")[2]

    @property
    def parent(self) -> "Address":
        """Give the address without its last part."""
        return Address(self.url.rpartition("/")[0])

    def __truediv__(self, name: str) -> "Address":
        return Address(f"{self.url}/{name.strip('/')}")

    def __str__(self) -> str:
        return self.url
