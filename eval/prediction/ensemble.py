"""Several networks and several views of each image, put together to one score per sample and class.

Everything is combined as probabilities, after the sigmoid, or the softmax of multiclass data: first
the views of one network, by their mean or maximum, then the networks, by their mean.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch

from eval.prediction.evaluate import Forward, Gather, predict
from eval.prediction.tta import Look, Reduction, looks, views
from shards.choices import CROP_SHARE, TestTimeName
from shards.errors import DataError, count_of, one_line
from shards.index import Task
from shards.pipeline.batch import Batch


@dataclass(frozen=True)
class EnsembleMember:
    """One network: `forward` takes images uint8 [B, C, size, size] on the device and gives logits
    [B, K].
    """

    name: str
    forward: Forward
    size: int
    num_channels: int = 3
    crop_share: float = CROP_SHARE  # what it sees of the short side


@dataclass(frozen=True, eq=False)
class Ensembled:
    """Probabilities float32, labels and known, bool: [N, K] each, in the index's order, on the
    device.
    """

    scores: torch.Tensor
    labels: torch.Tensor
    known: torch.Tensor


def predict_ensemble(
    members: Sequence[EnsembleMember],
    augmentation: TestTimeName,
    reduction: Reduction,
    batches: Callable[[Look], Iterable[Batch]],
    num_samples: int,
    gather: Gather,
    task: Task = "multilabel",
) -> Ensembled:
    """Predict every view of every sample with every member.

    Args:
        members: at least one.
        augmentation, reduction: which views, and how they become one; see eval.prediction.tta.
        batches: the batches of the split, on the device, as a look says. Called once for each look,
            whose images are thus decoded once for all members.
        num_samples, gather: as in `eval.prediction.evaluate.predict`. Memory: the logits of one
            look, of all its views and members, beside one matrix [N, K] per member.
        task: says what the logits are.
    """
    join = torch.maximum if reduction == "max" else torch.add
    # no probability is below 0: it changes neither sum nor maximum
    scores = [torch.zeros(())] * len(members)
    num_views = [0] * len(members)
    known = torch.ones((), dtype=torch.bool)
    for look, seeing in who_looks(members, augmentation).items():
        forward = _seen_by([members[number].forward for number in seeing], look, augmentation)
        outputs = predict(forward, batches(look), num_samples, gather, task)
        # what one look has skipped is not known
        known = known.to(outputs.known.device) & outputs.known
        for number, views_of_one in zip(
            seeing, outputs.scores.chunk(len(seeing), dim=1), strict=True
        ):
            for view in views_of_one.unbind(1):
                scores[number] = join(scores[number], view)
                num_views[number] += 1
    if reduction == "mean":
        scores = [score / num for score, num in zip(scores, num_views, strict=True)]
    return Ensembled(torch.stack(scores).mean(0), outputs.labels, known)


def who_looks(
    members: Sequence[EnsembleMember], augmentation: TestTimeName
) -> dict[Look, list[int]]:
    """Map each view that is needed to the numbers of the members that share it."""
    sharing: dict[Look, list[int]] = {}
    for number, member in enumerate(members):
        for look in looks(augmentation, member.size, member.crop_share):
            sharing.setdefault(look, []).append(number)
    return sharing


def _seen_by(forwards: Sequence[Forward], look: Look, augmentation: TestTimeName) -> Forward:
    """Make one forward of several: logits [B, V, K], all views of the first member, then of the
    next.
    """

    def forward(images: torch.Tensor) -> torch.Tensor:
        shown = views(images, look, augmentation)
        return torch.stack([each(view).float() for each in forwards for view in shown], dim=1)

    return forward


@torch.inference_mode()
def check_sizes(
    members: Sequence[EnsembleMember], augmentation: TestTimeName, device: torch.device
) -> None:
    """Refuse, before the first batch, an image size that a network built for a fixed size cannot
    take.
    """
    for member in members:
        for size in [look.size for look in looks(augmentation, member.size, member.crop_share)]:
            try:
                member.forward(
                    torch.zeros(
                        (1, member.num_channels, size, size), dtype=torch.uint8, device=device
                    )
                )
            except torch.OutOfMemoryError:
                raise
            except (AssertionError, RuntimeError, ValueError) as error:
                raise DataError(
                    f"{member.name}: its network does not take images of {count_of(size, 'pixel')} "
                    f"({one_line(error)[:200]}): leave out --size, and of --tta choose another "
                    f"than multiscale"
                ) from error
