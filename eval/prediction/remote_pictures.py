"""Pictures by address: each is fetched once, into a folder of this process."""

import os
import tempfile
from pathlib import Path

from shards.errors import DataError, FormatError, SampleError, count_of
from shards.host.picture_files import IMAGE_SUFFIXES, is_image
from shards.remote.address import Address
from shards.remote.opening import fetch_small
from shards.remote.patience import MissingError
from shards.remote.transfer import open_store


def picture_address(given: str) -> Address:
    """Read the address of one picture. Raises DataError for another: no folder is listed."""
    address = Address.parse(given)
    if not is_image(address.name):
        raise DataError(
            f"{address}: is no picture by its name (suffixes {' '.join(IMAGE_SUFFIXES)}), and an "
            f"address is not listed: name its pictures; to predict a packed dataset: python -m "
            f"eval --data {address.parent} --split {address.name} --export csv"
        )
    return address


class FetchedPictures:
    """The bytes of pictures by address. Threads may share one; the folder goes with it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._folder = tempfile.TemporaryDirectory(prefix="tarmac-pictures-")

    def read(self, number: int, address: Address) -> bytes:
        """Read picture `number`, fetched when first asked for.

        Raises SampleError for one that is not there or too large, DataError where the server gives
        up: others would meet the same.
        """
        path = Path(self._folder.name, str(number))
        if path.exists():
            return path.read_bytes()
        try:
            data = fetch_small(open_store(address.parent), address, self._limit)
        except MissingError as error:
            raise SampleError(str(error).removeprefix(f"{address}: ")) from error
        except FormatError as error:
            raise SampleError(
                f"has more than {count_of(self._limit, 'byte')}, or none that can be read"
            ) from error
        part = path.with_suffix(".part")
        part.write_bytes(data)
        os.rename(part, path)
        return data
