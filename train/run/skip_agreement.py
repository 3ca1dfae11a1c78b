"""Training without the samples that cannot be read: all ranks agree on what counts, and the run folder lists them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch

from shards.index import DatasetIndex
from shards.loader import Loader
from shards.pipeline.bad_samples import Skipped, check_skipped
from shards.pipeline.batch import Batch, OnDevice
from train.config import TrainConfig
from train.run.folder import RunFolder


class Skips:
    """Agree on skipped samples over all ranks and record them.

    `reduce` sums a tensor over ranks, `gather` puts the lists of all ranks together; on one rank both are identities.
    Where a bad sample stops the run nothing is exchanged.
    """

    def __init__(
        self,
        config: TrainConfig,
        folder: RunFolder,
        device: torch.device,
        reduce: Callable[[torch.Tensor], torch.Tensor],
        gather: Callable[[list[Skipped]], Sequence[Skipped]],
        say: Callable[[str], None],
    ) -> None:
        self._active, self._folder, self._device = config.on_bad_sample == "skip", folder, device
        self._reduce, self._gather, self._say = reduce, gather, say

    def agreed(self, loader: Loader) -> Iterator[Batch]:
        """Pass a loader's batches on, on the device and with the `num_known` of all ranks.

        Raises SampleError past the bound, on all ranks at once.

        What a rank has skipped only it knows: a sum over ranks, once a step, tells all of them. Which samples these
        are is exchanged only where there are any.
        """
        num_skipped, index = 0, loader.index
        for batch in OnDevice(loader, self._device):
            if self._active and (loader.plan.world.num_ranks > 1 or batch.skipped):  # alone, `num_known` is right
                own = torch.tensor([int(batch.known.sum()), len(batch.skipped)], dtype=torch.int64, device=self._device)
                num_known, num_new = self._reduce(own).tolist()
                batch = replace(batch, num_known=num_known)
                if num_new:
                    num_skipped += num_new
                    skipped = self._gather(list(batch.skipped))
                    if loader.plan.world.rank == 0:
                        self._record(skipped, index)
                    check_skipped(num_skipped, index, skipped)
            yield batch
            del batch

    def _record(self, skipped: Sequence[Skipped], index: DatasetIndex) -> None:
        """Write each sample down once in the life of a run, and say so."""
        for each in skipped:
            described = {"split": index.split, "shard": each.shard, "key": each.key, "reason": each.reason}
            if self._folder.note_bad_sample(described):
                self._say(f"skipped {each.line()}")
