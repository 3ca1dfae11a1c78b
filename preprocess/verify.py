"""Check every byte of a packed dataset, and repair it: `python -m preprocess.verify data/voc
--repair`.
"""

import dataclasses
import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from shards.choices import CACHE_DIR, CACHE_GB, check_location
from shards.commandline import folder, parse, run
from shards.disk.format import DAMAGED_NAME, write_atomically
from shards.errors import DataError, count_of
from shards.options import check_bounds, option
from shards.remote.address import Address, is_url

if TYPE_CHECKING:
    from preprocess.packing.pool import Pool
    from preprocess.verifying.verification import Fault, Verification


@dataclass(frozen=True)
class VerifyConfig:
    """The command line."""

    data: str = option(
        "",
        "packed dataset, such as data/voc or s3://bucket/voc, or one split of it",
        positional=True,
    )
    repair: bool = option(
        False,
        "rewrite what follows from intact shards, move what is damaged into SPLIT/damaged; "
        "nothing is deleted, and the same preprocess.shard command then packs what is missing",
    )
    json: str = option("", "also write the findings to this JSON file")
    workers: int = option(0, "checking processes; 0 means one per core", ge=0)
    cache_dir: str = option("", CACHE_DIR)
    cache_gb: float = option(0.0, CACHE_GB, ge=0)

    def __post_init__(self) -> None:
        check_bounds(self, as_flags=True)
        check_location(self.data, self.cache_dir, self.cache_gb)
        if self.repair and is_url(self.data):
            raise DataError(
                f"--repair changes files, which is not done by address: repair the folder that "
                f"{self.data} was uploaded from, then upload it again"
            )


def main(argv: Sequence[str] | None = None) -> None:
    """Check, report, repair; exit with status 1 where something was found."""
    config = parse(
        VerifyConfig,
        argv,
        prog="python -m preprocess.verify",
        description="Check shards, index and every image of a packed dataset; status 0: intact, "
        "1: damaged.",
        epilog="example: python -m preprocess.verify data/voc --repair",
    )
    # Half a second of imports: not for --help or a mistyped flag.
    from preprocess.packing.lock import alone_in
    from preprocess.packing.pool import open_pool
    from preprocess.verifying.remote_split import find_remote_splits, verify_remote
    from preprocess.verifying.verification import find_splits

    findings = []
    with open_pool(config.workers) as pool:
        if is_url(config.data):
            for address in find_remote_splits(Address.parse(config.data)):
                verified = verify_remote(address, pool, config.cache_dir, config.cache_gb)
                findings += _report(address, verified)
        else:
            for split in find_splits(folder(config.data)):
                with alone_in(split) if config.repair else nullcontext():
                    findings += _verify(split, pool, config.repair)
    if config.json:
        described = [dataclasses.asdict(finding) | {"line": finding.line()} for finding in findings]
        write_atomically(Path(config.json), (json.dumps(described, indent=1) + "\n").encode())
    if findings:
        raise SystemExit(1)


def _verify(split: Path, pool: "Pool", repair: bool) -> "list[Fault]":
    from preprocess.verifying.repair import repair_split
    from preprocess.verifying.verification import verify_split

    verified = verify_split(split, pool)
    findings = _report(split, verified)
    if repair and findings:
        for line in repair_split(split, findings):
            print(line)
    elif (split / DAMAGED_NAME).exists():
        print(
            f"{split / DAMAGED_NAME}: holds what an earlier repair has moved there; delete it when "
            f"nobody needs it"
        )
    return findings


def _report(split: "Path | Address", verified: "Verification") -> "list[Fault]":
    findings = verified.findings
    for finding in findings:
        print(finding.line())
    checked = (
        f"{count_of(verified.num_samples, 'sample')} in "
        f"{count_of(verified.num_shards, 'shard')}, {verified.num_bytes / 1e6:,.1f} MB"
    )
    state = count_of(len(findings), "finding") if findings else "all intact"
    print(f"{split}: {checked}: {state}")
    return findings


if __name__ == "__main__":
    run(main)
