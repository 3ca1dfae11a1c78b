"""How fast a node trains: each of its parts has a limit in images/s, and the lowest one decides.

Everything overlaps: threads decode while others fetch and the GPU computes (docs/scaling.md, with
measurements). Nodes train in step, so a cluster is as fast as its slowest node times their number.
"""

import math
from dataclasses import dataclass

from shards.remote.fetch_ahead import DOWNLOADS

# CPU time to receive, hash and write what is fetched (docs/scaling.md): 2 ns a byte, 2.5 ms a request
FETCH_S_A_BYTE = 2e-9
FETCH_S_A_REQUEST = 2.5e-3


@dataclass(frozen=True)
class NodeParts:
    """What one machine has. Rates of 0 are without a limit; `gpu_images_per_s` is of all its GPUs."""

    cores: float
    decode_s: float  # CPU time of an image
    gpu_images_per_s: float = 0.0
    link_bytes_per_s: float = 0.0
    disk_bytes_per_s: float = 0.0
    latency_s: float = 0.0  # from asking for bytes until the first of them arrives
    connection_bytes_per_s: float = 0.0
    num_downloads: int = DOWNLOADS  # at once
    fetch_s_a_byte: float = FETCH_S_A_BYTE
    fetch_s_a_request: float = FETCH_S_A_REQUEST


@dataclass(frozen=True)
class NodeShare:
    """What one machine takes in an epoch: `fetched` is the share of the bytes that are not in its
    cache. `rows_bytes` of a table come besides, in `rows_requests`, where the epoch is the first.
    """

    images: float
    num_bytes: float  # of its shards
    requests: float  # where all of them are fetched
    fetched: float = 1.0
    rows_bytes: float = 0.0
    rows_requests: float = 0.0


def part_limits(parts: NodeParts, share: NodeShare) -> dict[str, float]:
    """List the images/s that each part of a machine allows; infinite where it has nothing to do."""
    fetched_bytes = share.fetched * share.num_bytes + share.rows_bytes
    requests = share.fetched * share.requests + share.rows_requests
    fetching = fetched_bytes * parts.fetch_s_a_byte + requests * parts.fetch_s_a_request
    decoding = share.images * parts.decode_s + fetching
    # what is fetched is written, and everything is read
    through_disk = fetched_bytes + share.num_bytes
    seconds = {
        "decoding": decoding / parts.cores,
        "link": _time(fetched_bytes, parts.link_bytes_per_s),
        "requests": serial_time(parts, fetched_bytes, requests) / parts.num_downloads,
        "disk": _time(through_disk, parts.disk_bytes_per_s),
        "GPU": _time(share.images, parts.gpu_images_per_s),
    }
    return {name: share.images / took if took else math.inf for name, took in seconds.items()}


def slowest(limits: dict[str, float]) -> str:
    """Name the part that decides."""
    return min(limits, key=lambda name: limits[name])


def serial_time(parts: NodeParts, num_bytes: float, num_requests: float) -> float:
    """Tell how long requests take one after the other, where no others are in their way: seconds."""
    rates = [rate for rate in (parts.link_bytes_per_s, parts.connection_bytes_per_s) if rate]
    return num_requests * parts.latency_s + _time(num_bytes, min(rates, default=0.0))


def _time(amount: float, per_s: float) -> float:
    return amount / per_s if per_s else 0.0
