"""A source whose class names are in one Unicode form, where those that it read are not."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from preprocess.images.geometry import ImageOptions
from preprocess.reading.class_names import normal_form
from preprocess.record import Record, Source, listed_records


def with_normal_names(source: Source) -> Source:
    """Return `source` itself where its class names are in form NFC, else one that is the same with
    such names.
    """
    names = source.class_names
    return source if all(name == normal_form(name) for name in names) else NormalNames(source)


class NormalNames(Source):
    """The `Source` with every class name in form NFC. Classes whose names are then the same become
    one.
    """

    def __init__(self, source: Source) -> None:
        normal = [normal_form(name) for name in source.class_names]
        self.class_names = tuple(dict.fromkeys(normal))
        self.task = source.task
        self.in_place = source.in_place
        self._source = source
        self._normal = normal
        place = {name: number for number, name in enumerate(self.class_names)}
        self._number = [place[name] for name in normal]

    def splits(self) -> tuple[str, ...]:
        """Return those of the source."""
        return self._source.splits()

    def records(self, split: str) -> Sequence[Record]:
        """List the source's records, with the numbers of the normal names."""
        # checked: numbers of classes that there are, before they are looked up
        return [self._renumbered(record) for record in listed_records(self._source, split)]

    def describe(self) -> Sequence[str]:
        """Say which classes became one."""
        times = Counter(self._normal)
        more = [
            f"class {name}: spelled in {n} Unicode forms, taken as one class"
            for name, n in times.items()
            if n > 1
        ]
        return [*self._source.describe(), *more]

    def image_options(self, options: ImageOptions, train: Sequence[Record]) -> ImageOptions:
        """Leave it to the source."""
        return self._source.image_options(options, train)

    def _renumbered(self, record: Record) -> Record:
        labels = {self._number[label] for label in record.labels}
        ignored = {self._number[label] for label in record.ignored}
        return replace(
            record, labels=tuple(sorted(labels)), ignored=tuple(sorted(ignored - labels))
        )
