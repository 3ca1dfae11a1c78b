"""Look at a packed dataset before training on it: `python -m preprocess.inspect data/voc`."""

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from shards.commandline import folder, parse, run
from shards.disk.format import write_atomically
from shards.errors import DataError
from shards.host.machine import num_cores
from shards.options import check_bounds, option
from shards.remote.address import Address, is_url

PAGE_NAME = "inspect.html"
NUMBERS_NAME = "inspect.json"


@dataclass(frozen=True)
class InspectConfig:
    """The command line."""

    data: str = option("", "packed dataset, such as data/voc", positional=True)
    out: str = option(
        "",
        "folder for inspect.html and inspect.json; default: inspect-NAME here, NAME as in "
        "data/NAME",
    )
    images: int = option(10, "sample images per class", ge=0)
    seed: int = option(0, "draws the sample images", ge=0)
    duplicates: bool = option(True, "look for near-duplicates, for which every image is decoded")
    num_threads: int = option(0, "threads that decode and compare images; 0 is one per core", ge=0)

    def __post_init__(self) -> None:
        check_bounds(self, as_flags=True)
        if is_url(self.data):
            address = Address.parse(self.data)
            raise DataError(
                f"{address}: every image is decoded here, so give a folder: copy the set to a disk, "
                f"or inspect it before it is uploaded"
            )


def main(argv: list[str] | None = None) -> None:
    """Inspect, print, and write the page and the numbers."""
    config = parse(
        InspectConfig,
        argv,
        prog="python -m preprocess.inspect",
        description="Show what a packed dataset holds and what in it needs attention.",
        epilog="example: python -m preprocess.inspect data/voc",
    )
    data = folder(config.data)
    out = Path(config.out or f"inspect-{data.name}")
    _check_writable(out)
    # Half a second of imports: not for --help or a mistyped flag.
    from preprocess.inspecting.inspection import as_json, inspect
    from preprocess.inspecting.inspection_page import render_inspection
    from preprocess.inspecting.inspection_summary import inspection_summary

    threads = config.num_threads or num_cores()
    inspection = inspect(data, config.duplicates, threads)
    page = render_inspection(inspection, config.images, config.seed, threads)
    numbers = json.dumps(as_json(inspection), indent=2, ensure_ascii=False, allow_nan=False)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / NUMBERS_NAME, f"{numbers}\n".encode(errors="backslashreplace"))
    write_atomically(out / PAGE_NAME, page.encode(errors="backslashreplace"))
    print("\n".join(inspection_summary(inspection)))
    print(f"\nsee {out / PAGE_NAME}; the numbers are in {out / NUMBERS_NAME}")


def _check_writable(out: Path) -> None:
    """Raise DataError where the results could not be written: before an hour of looking at images.

    Nothing is left behind: a file without a name is made in the folder, or in the one that is to
    hold it.
    """
    if out.exists() and not out.is_dir():
        raise DataError(f"--out {out}: a file of that name is there; give a folder")
    taken = next((name for name in (NUMBERS_NAME, PAGE_NAME) if (out / name).is_dir()), None)
    if taken:
        raise DataError(f"--out {out}: {taken} in it is a folder; give another folder")
    nearest = next(path for path in (out, *out.absolute().parents) if path.exists())
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise DataError(
            f"--out {out}: cannot be written ({error.strerror}: {nearest}); give another folder"
        ) from None


if __name__ == "__main__":
    run(main)
