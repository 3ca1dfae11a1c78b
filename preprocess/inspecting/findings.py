"""What deserves attention in a dataset, one line each: the start of an inspection."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from preprocess.inspecting.statistics import SplitStatistics
from shards.errors import count_of

FEW_POSITIVES = 10  # below, a class's average precision hangs on single images
MANY_IGNORED = 0.2  # of the images that would else be positives
RARE = 100  # times more positives than another class of the split
SMALL_SIDE = 32  # pixels
NARROW = 4.0  # times longer than wide, or the reverse
SHIFT = 4.0  # standard errors between the shares of a class in two splits
SHIFT_RATIO = 1.3  # and this factor between them
COLOUR_SHIFT = 0.25  # standard deviations between channel means
NOT_NORMAL = 0.2  # standard deviations between the index's mean or std and those of decoded images
NAMES = 8  # listed in one line


@dataclass(frozen=True)
class Finding:
    """One line. Serious ones make a number of an evaluation wrong or missing."""

    text: str
    serious: bool = False


@dataclass(frozen=True)
class Facts:
    """What findings are drawn from. `alike` [S, S]: images of split row that look like images of
    split column.
    """

    class_names: Sequence[str]
    splits: Sequence[SplitStatistics]
    settings: Sequence[dict[str, Any]]  # image settings of each split
    same_keys: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    alike: np.ndarray | None = None  # None where nobody looked
    num_contradictions: int = 0  # pairs that look alike and have different labels
    flat: Sequence[int] | None = None  # images of almost one colour, per split
    # by how much normalised pixels have not mean 0 and std 1, per split
    normalised: Sequence[float] = ()


def findings(facts: Facts) -> list[Finding]:
    """Say what stands out, serious lines first."""
    found = [
        *_leaks(facts),
        *_missing(facts),
        *_few(facts),
        *_shifts(facts),
        *(line for split in facts.splits for line in _labels(facts, split)),
        *(line for split in facts.splits for line in _shapes(split)),
        *_one_colour(facts),
        *_statistics(facts),
    ]
    return sorted(found, key=lambda finding: not finding.serious)


def images(num: int) -> str:
    """Count images in words."""
    return count_of(num, "image")


def join(names: Sequence[str], most: int = NAMES) -> str:
    """List names, at most `most` of them."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def _leaks(facts: Facts) -> list[Finding]:
    """Images and keys of one split that are in another, or twice in one."""
    found = []
    for (first, second), keys in facts.same_keys.items():
        verb = "key is" if len(keys) == 1 else "keys are"
        found.append(Finding(f"{len(keys):,} {verb} in both {first} and {second}: {join(keys, 3)}"))
    if facts.alike is None:
        return found
    names = [split.split for split in facts.splits]
    for one, other in combinations(range(len(names)), 2):
        num = int(facts.alike[other, one])
        if num:
            verb = "looks" if num == 1 else "look"
            found.append(
                Finding(
                    f"{images(num)} of {names[other]} {verb} like images of {names[one]}",
                    serious=True,
                )
            )
    for number, name in enumerate(names):
        num = int(facts.alike[number, number])
        if num:
            found.append(Finding(f"{images(num)} of {name} look like another one of {name}"))
    if facts.num_contradictions:
        verb = (
            "pair looks alike but has"
            if facts.num_contradictions == 1
            else "pairs look alike but have"
        )
        found.append(Finding(f"{facts.num_contradictions:,} {verb} different labels"))
    return found


def _missing(facts: Facts) -> list[Finding]:
    """Classes without a positive, grouped by the splits that lack them."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for number, name in enumerate(facts.class_names):
        lacking = tuple(split.split for split in facts.splits if not split.positives[number])
        if lacking:
            groups.setdefault(lacking, []).append(name)
    return [
        Finding(f"{_which(lacking, len(facts.splits))} of {join(names)}", serious=True)
        for lacking, names in groups.items()
    ]


def _which(lacking: Sequence[str], num_splits: int) -> str:
    if len(lacking) == num_splits > 1:
        return "no split has a positive"
    *others, last = lacking
    return (
        f"{', '.join(others)} and {last} have no positive" if others else f"{last} has no positive"
    )


def _few(facts: Facts) -> list[Finding]:
    """Classes with a handful of positives, and how uneven the rest is."""
    found = []
    for split in facts.splits:
        counted = sorted(
            (num, name) for name, num in zip(facts.class_names, split.positives, strict=True) if num
        )
        few = [f"{name} ({num})" for num, name in counted if num < FEW_POSITIVES]
        if few:
            found.append(
                Finding(f"{split.split} has fewer than {FEW_POSITIVES} positives of {join(few)}")
            )
        elif counted and counted[-1][0] >= RARE * counted[0][0]:
            least, rare = counted[0]
            most, common = counted[-1]
            found.append(
                Finding(
                    f"{split.split} has {most / least:,.0f} times as many positives of {common} as "
                    f"of {rare}"
                )
            )
    return found


def _shifts(facts: Facts) -> list[Finding]:
    """What differs between the first split and each other one."""
    found = []
    first = facts.splits[0]
    for number, other in enumerate(facts.splits[1:], 1):
        shares = [np.array(split.positives) / split.num_samples for split in (first, other)]
        pooled = (np.array(first.positives) + np.array(other.positives)) / (
            first.num_samples + other.num_samples
        )
        error = np.sqrt(pooled * (1 - pooled) * (1 / first.num_samples + 1 / other.num_samples))
        gap = np.abs(shares[0] - shares[1])
        ratio = np.maximum(*shares) / np.maximum(np.minimum(*shares), 1e-12)
        moved = np.flatnonzero((gap > SHIFT * error) & (ratio > SHIFT_RATIO))
        names = [
            f"{facts.class_names[c]} ({shares[0][c]:.1%} and {shares[1][c]:.1%})"
            for c in moved[np.argsort(-gap[moved])]
        ]
        if names:
            found.append(
                Finding(
                    f"{first.split} and {other.split} differ in how common these are: {join(names)}"
                )
            )
        if len(first.mean) == len(other.mean):
            means = np.abs(np.array(first.mean) - other.mean) / np.maximum(first.std, 1e-6)
            if means.max() > COLOUR_SHIFT:
                found.append(
                    Finding(
                        f"{first.split} and {other.split} differ in colour or brightness: see mean "
                        f"and std"
                    )
                )
        changed = [
            name
            for name, value in facts.settings[0].items()
            if facts.settings[number].get(name) != value
        ]
        if changed:
            found.append(
                Finding(
                    f"{first.split} and {other.split} were packed with different {join(changed)}"
                )
            )
    return found


def _labels(facts: Facts, split: SplitStatistics) -> list[Finding]:
    found = []
    num = len(split.unlabelled)
    if num:
        verb = "shows" if num == 1 else "show"
        share = num / split.num_samples
        found.append(
            Finding(f"{images(num)} of {split.split} ({share:.1%}) {verb} none of the classes")
        )
    heavy = [
        f"{name} ({ignored} of {ignored + positive})"
        for name, positive, ignored in zip(
            facts.class_names, split.positives, split.ignored, strict=True
        )
        if ignored >= FEW_POSITIVES and ignored > MANY_IGNORED * (ignored + positive)
    ]
    if heavy:
        found.append(Finding(f"{split.split} ignores many images of {join(heavy)}"))
    return found


def _shapes(split: SplitStatistics) -> list[Finding]:
    found = []
    smallest = int(split.sizes.short_side["smallest"])
    if smallest < SMALL_SIDE:
        found.append(
            Finding(
                f"the smallest image of {split.split} has a short side of "
                f"{count_of(smallest, 'pixel')}"
            )
        )
    aspect = max(split.sizes.aspect["largest"], 1 / split.sizes.aspect["smallest"])
    if aspect > NARROW:
        found.append(
            Finding(f"the narrowest image of {split.split} is {aspect:.1f} times as long as wide")
        )
    return found


def _one_colour(facts: Facts) -> list[Finding]:
    return [
        Finding(
            f"{images(num)} of {split.split} {'is' if num == 1 else 'are'} of almost one colour"
        )
        for split, num in zip(facts.splits, facts.flat or (), strict=False)
        if num
    ]


def _statistics(facts: Facts) -> list[Finding]:
    return [
        Finding(
            f"mean and std in the index of {split.split} are not those of its images: pack it "
            f"again",
            True,
        )
        for split, worst in zip(facts.splits, facts.normalised, strict=False)
        if worst > NOT_NORMAL
    ]
