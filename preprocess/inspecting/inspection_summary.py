"""The inspection as text for a terminal."""

from preprocess.inspecting.findings import images
from preprocess.inspecting.inspection import Inspection
from shards.errors import count_of

PRINTED_CLASSES = 80  # the page and the numbers have all


def inspection_summary(inspection: Inspection) -> list[str]:
    """Spell what fits a terminal: findings, splits, classes."""
    splits = inspection.splits
    names = inspection.class_names
    classes = count_of(len(names), "class")
    lines = [f"{inspection.name}: {images(inspection.num_samples)} of {classes}", ""]
    lines += [
        f"{'!' if finding.serious else '-'} {finding.text}" for finding in inspection.findings
    ]
    if not inspection.findings:
        lines.append("nothing to report")
    if inspection.likeness is None:
        lines.append("- nobody looked for near-duplicates (--no-duplicates)")
    width = max(len("split"), *(len(split.split) for split in splits))
    lines += [
        "",
        f"{'split':{width}}  {'images':>9}  {'kB each':>7}  {'labels each':>11}  {'common size':>11}  mean, std",
    ]
    for split in splits:
        side = f"{split.sizes.common[0][0]} x {split.sizes.common[0][1]}"
        moments = "  ".join(
            f"{mean:.3f}, {std:.3f}" for mean, std in zip(split.mean, split.std, strict=True)
        )
        lines.append(
            f"{split.split:{width}}  {split.num_samples:9,}  {split.mean_bytes / 1e3:7.1f}  {split.labels_mean:11.2f}"
            f"  {side:>11}  {moments}"
        )
    lines += ["", "pixels of decoded images, normalised by mean and std of their index:"]
    for split, one in zip(splits, inspection.normalised, strict=True):
        moments = "  ".join(
            f"{round(mean, 3) + 0:.3f}, {std:.3f}"
            for mean, std in zip(one.mean, one.std, strict=True)
        )
        have = "image has" if one.num_images == 1 else "images have"
        lines.append(f"{split.split:{width}}  {one.num_images:9,} {have} mean, std  {moments}")
    width = max(len("positives"), *(len(name) for name in names))
    columns = [max(7, len(split.split)) for split in splits]
    titles = "".join(
        f"  {split.split:>{w}}  ignored" for split, w in zip(splits, columns, strict=True)
    )
    lines += ["", f"{'positives':{width}}{titles}"]
    for number, name in enumerate(names[:PRINTED_CLASSES]):
        counts = "".join(
            f"  {split.positives[number]:{w},}  {split.ignored[number]:7,}"
            for split, w in zip(splits, columns, strict=True)
        )
        lines.append(f"{name:{width}}{counts}")
    if len(names) > PRINTED_CLASSES:
        lines.append(f"and {count_of(len(names) - PRINTED_CLASSES, 'more class')}")
    lines += [
        "",
        "labels of an image  "
        + "  ".join(f"{number:>7}" for number in range(_most_labels(inspection) + 1)),
    ]
    lines += [
        f"{split.split:18}  " + "  ".join(f"{num:7,}" for num in split.labels_per_image)
        for split in splits
    ]
    return lines


def _most_labels(inspection: Inspection) -> int:
    return max(len(split.labels_per_image) for split in inspection.splits) - 1
