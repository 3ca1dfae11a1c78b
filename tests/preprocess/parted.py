"""A user's own source that is listed in parts, as one of millions of images would be."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from preprocess.record import Record, Source
from tests.conftest import jpeg, photograph


@dataclass
class PartedSource(Source):
    """Folders of JPEGs, of one class; each folder is a part."""

    root: Path
    class_names = ("a",)

    @classmethod
    def written(cls, root: Path, num_parts: int, per_part: int) -> "PartedSource":
        for part in range(num_parts):
            (root / f"{part}").mkdir(parents=True)
            for number in range(per_part):
                image = jpeg(photograph(40, 30, 100 * part + number))
                (root / f"{part}" / f"{number}.jpg").write_bytes(image)
        return cls(root)

    def splits(self) -> tuple[str, ...]:
        return ("train",)

    def parts(self, split: str) -> list[str]:
        return sorted(path.name for path in self.root.iterdir())

    def list_part(self, split: str, part: str) -> Iterator[Record]:
        for path in sorted((self.root / part).iterdir()):
            name = f"{part}/{path.stem}"
            yield Record(name, path, f"{part}/{path.name}", (0,), ())

    def records(self, split: str) -> list[Record]:
        return [record for part in self.parts(split) for record in self.list_part(split, part)]
