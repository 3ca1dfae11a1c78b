"""Training without the samples that cannot be read: all ranks agree on what counts, and the run
folder lists them.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from shards.loader import Loader
from shards.pipeline.bad_samples import Skipped, check_skipped
from shards.pipeline.batch import Batch
from train.run.folder import RunFolder
from train.run.ranks import Ranks


class SkipAgreement:
    """What all ranks skip in one pass over a split, recorded in the run folder.

    What a rank has skipped only it knows: a sum over ranks, once a step, lets all of them know.
    Which samples these are is exchanged only where there are any. Where a bad sample stops the run
    nothing is exchanged, unless each rank counts the known labels of its own part.
    """

    def __init__(self, loader: Loader, ranks: Ranks, folder: RunFolder) -> None:
        self._index = loader.index
        self._ranks = ranks
        self._folder = folder
        self._may_skip = loader.maker.on_bad_sample == "skip"
        self._num_skipped = 0

    def agreed(self, batch: Batch) -> Batch:
        """Give a batch the `num_known` of all ranks. Raises SampleError past the bound, on all
        ranks at once.
        """
        may_differ = self._may_skip and (self._ranks.num_ranks > 1 or batch.skipped)
        if not (may_differ or batch.num_known_is_local):
            return batch  # `num_known` is right
        # by the index, not by the batch, which may be on a device that is busy
        ids = np.array([each.id for each in batch.skipped], dtype=np.int64)
        lost = int(self._index.known(ids).sum())
        is_local = batch.num_known_is_local
        whole = 0 if is_local else batch.num_known + lost
        own = batch.num_known if is_local else -lost
        total, num_new = self._ranks.sum_on_host([own, len(ids)])
        if num_new:
            self._num_skipped += num_new
            skipped = self._ranks.gather_list(list(batch.skipped))
            if self._ranks.is_first:
                self._record(skipped)
            check_skipped(self._num_skipped, self._index, skipped)
        return replace(batch, num_known=whole + total, num_known_is_local=False)

    def _record(self, skipped: Sequence[Skipped]) -> None:
        """Write each sample down once in the life of a run, and say so."""
        for each in skipped:
            described = {
                "split": self._index.split,
                "shard": each.shard,
                "key": each.key,
                "reason": each.reason,
            }
            if self._folder.note_bad_sample(described):
                self._ranks.say(f"skipped {each.line()}")
