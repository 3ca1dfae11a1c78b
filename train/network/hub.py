"""The Hugging Face hub, from which timm fetches pretrained weights: silent but for one line."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator

from huggingface_hub.errors import LocalEntryNotFoundError

from shards.errors import one_line

UNREACHABLE = "the Hugging Face hub cannot be reached"


@contextlib.contextmanager
def hub_says_once() -> Iterator[None]:
    """Say once that the hub does not answer, where its library has two lines for every attempt.

    It tries each file six times: without a network that is most of a minute.
    """
    logger = logging.getLogger("huggingface_hub.utils._http")  # filters do not count for children
    said = _Once()
    logger.addFilter(said)
    try:
        yield
    finally:
        logger.removeFilter(said)


def reason(error: BaseException) -> str:
    """Say why there are no weights."""
    if isinstance(error, LocalEntryNotFoundError):
        return UNREACHABLE
    return one_line(error)[:300]


class _Once(logging.Filter):
    def __init__(self) -> None:
        super().__init__()
        self._silent = os.environ.get("RANK", "0") != "0"

    def filter(self, record: logging.LogRecord) -> bool:
        if not self._silent and record.levelno >= logging.WARNING:
            print(f"{UNREACHABLE} so far; trying for up to a minute", file=sys.stderr)
            self._silent = True
        return False
