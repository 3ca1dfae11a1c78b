"""Samples that could not be read and were not evaluated: collected over views and ranks, and
reported.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from shards.errors import count_of
from shards.index import DatasetIndex
from shards.pipeline.bad_samples import Skipped, check_skipped
from shards.pipeline.batch import Batch

MAX_KEYS = 10  # that the report's table names; metrics.json has all


class SkippedSamples:
    """What `on_bad_sample="skip"` left out of an evaluation."""

    def __init__(self) -> None:
        self._own: dict[int, Skipped] = {}

    def noted(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Pass batches on, noting what they skip."""
        for batch in batches:
            self._own.update({each.id: each for each in batch.skipped})
            yield batch
            del batch

    def of_all_ranks(
        self, gather: Callable[[list[Skipped]], Sequence[Skipped]], index: DatasetIndex
    ) -> list[dict[str, Any]]:
        """Describe them in the index's order: shard, key and reason. Raises SampleError past the
        bound.
        """
        skipped = sorted(gather(list(self._own.values())), key=lambda each: each.id)
        check_skipped(len(skipped), index, skipped)
        return [{"shard": each.shard, "key": each.key, "reason": each.reason} for each in skipped]


def shortly(not_evaluated: Sequence[Mapping[str, Any]]) -> str:
    """Count and name them on one line."""
    return _counted([each["key"] for each in not_evaluated], "could not be read")


def unshown(keys: Sequence[str]) -> str:
    """Count and name on one line the samples that were evaluated but whose whole image cannot be
    decoded.
    """
    found = _counted(keys, "could not be decoded whole, which its centre crop did not need")
    return f"{found}; python -m preprocess.verify tells what is damaged" if keys else ""


def _counted(keys: Sequence[str], what: str) -> str:
    more = f" and {len(keys) - MAX_KEYS} more" if len(keys) > MAX_KEYS else ""
    return f"{count_of(len(keys), 'sample')} {what}: {', '.join(keys[:MAX_KEYS])}{more}"
