"""Training without the samples that cannot be read: all ranks agree on what counts, and the run folder lists them."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch

from shards.batch import Batch
from shards.index import DatasetIndex
from shards.watch import Skipped, check_skipped
from train.run import RunFolder


class Skips:
    """Agree on skipped samples over all ranks and record them.

    `reduce` sums a tensor over ranks, `gather` puts the lists of all ranks together; on one rank both are identities.
    Without `active`, where a bad sample stops the run, nothing is exchanged.
    """

    def __init__(
        self,
        active: bool,
        folder: RunFolder,
        device: torch.device,
        reduce: Callable[[torch.Tensor], torch.Tensor],
        gather: Callable[[list[Skipped]], Sequence[Skipped]],
        say: Callable[[str], None] | None,
    ) -> None:
        self._active, self._folder, self._device = active, folder, device
        self._reduce, self._gather, self._say = reduce, gather, say

    def agreed(self, batches: Iterable[Batch], index: DatasetIndex) -> Iterator[Batch]:
        """Pass batches on with the `num_known` of all ranks; raise SampleError past the bound, on all ranks at once.

        What a rank has skipped only it knows: a sum over ranks, once a step, tells all of them. Which samples these
        are is exchanged only where there are any.
        """
        num_skipped = 0
        for batch in batches:
            if self._active:
                own = torch.tensor([int(batch.known.sum()), len(batch.skipped)], dtype=torch.int64, device=self._device)
                num_known, num_new = self._reduce(own).tolist()
                batch["num_known"] = num_known
                if num_new:
                    num_skipped += num_new
                    skipped = self._gather(list(batch.skipped))
                    self._record(skipped, index)
                    check_skipped(num_skipped, index, skipped)
            yield batch
            del batch

    def _record(self, skipped: Sequence[Skipped], index: DatasetIndex) -> None:
        """Write each sample down once in the life of a run, and say so; the first rank does."""
        if self._say is None:
            return
        for each in skipped:
            described = {"split": index.split, "shard": each.shard, "key": each.key, "reason": each.reason}
            if self._folder.note_bad_sample(described):
                self._say(f"skipped {each.line()}")
