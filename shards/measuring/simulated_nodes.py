"""Predict how machines would train on a set by address: what `python -m shards.bench --simulate`
prints. The shards of each are those that the order near gives it; nothing is fetched but the index and,
where the time of decoding is to be measured, the first shards.
"""

import dataclasses
import math
import statistics
import time
from dataclasses import dataclass

import numpy as np
import torch

from shards.bench import BenchConfig
from shards.disk.tables import ShardTable
from shards.errors import DataError, count_of
from shards.host.machine import num_cores
from shards.index import DatasetIndex, open_split
from shards.loader import Order, View, World
from shards.measuring.throughput import (
    NodeParts,
    NodeShare,
    part_limits,
    serial_time,
    slowest,
)
from shards.order.mixing import BATCHES, mixing_of
from shards.pipeline.batch_maker import BatchMaker
from shards.remote.address import Address
from shards.remote.fetch_ahead import DOWNLOADS
from shards.remote.fsspec_store import BLOCK_BYTES
from shards.remote.future import most_open_bytes
from shards.remote.row_parts import CONNECTIONS
from shards.remote.split_tables import come_in_parts
from shards.sampler import GlobalPlan, NearPlan

GB = 1e9
IMAGES_SEEN = 320  # to measure decoding, in batches of BATCH
BATCH = 64
KNOBS = {
    "decoding": "more cores (--node-cores), a set packed with a smaller --short-side, or --cache ram "
    "in training where it fits",
    "link": "a faster link (--link), a cache for all of a machine's shards (--node-cache-gb), or a "
    "set packed with a smaller --short-side",
    "requests": "more ranks a machine (--gpus-per-node: each fetches 4 shards at once), a store "
    "that answers sooner (--latency-ms), or larger shards where each is one request",
    "disk": "a faster disk for --cache-dir (--disk-mb), or more memory: what fits is read once",
    "GPU": "none of the data: the GPUs are busy",
}


@dataclass(frozen=True)
class Simulated:
    """One machine: its shards, those of them that other machines read too, and its epoch."""

    shards: np.ndarray
    open_bytes: int
    share: NodeShare
    num_first: int  # shards that its first batch needs
    first_rows_bytes: float  # of these, where rows come part by part
    num_shared: int = 0


def simulate_nodes(config: BenchConfig) -> None:
    """Do what `python -m shards.bench --simulate` was asked for."""
    torch.set_num_threads(1)
    index = open_split(config.data, config.split, config.cache_dir, config.cache_gb)
    plan = near_plan(index, config)
    sizes = bytes_of_shards(index)
    rows = bytes_of_rows(index)
    nodes = split_over_nodes(plan, sizes, config.simulate, is_by_blocks(index), rows)
    _check_cache(config, nodes)
    decode_s = 1e-6 * config.decode_us or decode_time(index, config)
    parts = parts_from(config, decode_s)
    print(_set_line(index, plan, sizes))
    print("\n" + "\n".join(_node_rows(config, parts, nodes)))
    print("\n" + "\n".join(_limit_rows(config, parts, nodes, plan.num_samples)))
    print("\n" + "\n".join(_closing_lines(config, parts, index, plan, nodes)))


def near_plan(index: DatasetIndex, config: BenchConfig) -> NearPlan:
    """Plan the batches of the order near for so many ranks. Raises DataError for too small batches."""
    num_ranks = config.simulate * config.gpus_per_node
    if config.global_batch_size < num_ranks:
        raise DataError(
            f"global_batch_size is {config.global_batch_size}, but "
            f"{count_of(config.simulate, 'machine')} of "
            f"{count_of(config.gpus_per_node, 'GPU')} make {count_of(num_ranks, 'rank')}: give at "
            f"least {num_ranks}"
        )
    if not index.num_samples:
        raise DataError(f"{index.root}: holds no samples; pack the split again")
    world = World(0, num_ranks, config.gpus_per_node)
    order = Order("near", config.shuffle_groups, config.shuffle_window)
    plan = order.plan(index, config.global_batch_size, True, 0, world)
    assert isinstance(plan, NearPlan)
    return plan


def bytes_of_shards(index: DatasetIndex) -> np.ndarray:
    """List how long the shards are: int64 [S]."""
    if isinstance(index.shards, ShardTable):
        return index.shards.table["bytes"].astype(np.int64)
    return np.array([shard.num_bytes for shard in index.shards], np.int64)


def bytes_of_rows(index: DatasetIndex) -> np.ndarray:
    """List how long the rows are that come with each shard: int64 [S]; zeros where the table comes
    whole, before the first batch.
    """
    found = index.shard_sizes * index.samples.dtype.itemsize
    in_parts = index.stored_keys is not None and come_in_parts(found)
    return found if in_parts else np.zeros_like(found)


def is_by_blocks(index: DatasetIndex) -> bool:
    """Tell whether a shard takes a request for each block, as in a bucket, where a folder would be
    put; from a plain server it is one request.
    """
    return not (isinstance(index.root, Address) and index.root.scheme in ("http", "https"))


def split_over_nodes(
    plan: NearPlan, sizes: np.ndarray, num_nodes: int, by_blocks: bool, rows: np.ndarray
) -> list[Simulated]:
    """Give each machine the shards that its ranks read: the same ones in every epoch. `rows` are
    the bytes of rows that come with each.
    """
    requests = _num_requests(sizes, by_blocks)
    rows_requests = _num_requests(rows, by_blocks)
    num_ranks = plan.world.num_ranks
    num_local = plan.world.num_local
    borders = np.arange(num_nodes + 1) * num_local * plan.local_batch_size
    slots = np.minimum(borders, plan.global_batch_size)  # of a batch: the last ranks may have fewer
    readers = np.zeros(len(sizes), np.int64)
    nodes = []
    for number in range(num_nodes):
        world = World(number * num_local, num_ranks, num_local)
        uses = dataclasses.replace(plan, world=world).uses(0)
        shards = np.unique(uses[:, 2])
        readers[shards] += 1
        part = float(slots[number + 1] - slots[number]) / plan.global_batch_size
        share = NodeShare(
            images=plan.num_samples * part,
            num_bytes=float(sizes[shards].sum()),
            requests=float(requests[shards].sum()),
            rows_bytes=float(rows[shards].sum()),
            rows_requests=float(rows_requests[shards].sum()),
        )
        first = np.unique(uses[uses[:, 0] == 0, 2])
        first_bytes = float(rows[first].sum())
        nodes.append(
            Simulated(shards, most_open_bytes(uses, sizes), share, len(first), first_bytes)
        )
    return [
        dataclasses.replace(node, num_shared=int((readers[node.shards] > 1).sum()))
        for node in nodes
    ]


def _num_requests(num_bytes: np.ndarray, by_blocks: bool) -> np.ndarray:
    """Count the requests that bring objects, or parts of one."""
    return -(-num_bytes // BLOCK_BYTES) if by_blocks else np.minimum(num_bytes, 1)


def decode_time(index: DatasetIndex, config: BenchConfig) -> float:
    """Make batches of the first images in this thread: CPU seconds an image."""
    num_images = min(IMAGES_SEEN, index.num_samples)
    plan = GlobalPlan(num_images, min(BATCH, num_images), 0, World(), shuffle=False)
    view = View(config.size, augment=config.augment, pad=config.pad, cutout=config.cutout)
    maker = BatchMaker(index, plan, view)
    maker.make(0, 0)  # loads compiled code
    steps = range(1, plan.num_steps) or range(1)  # not the same images again: they cost less
    took = []
    for step in steps:
        start = time.thread_time()
        maker.make(0, step)
        took.append((time.thread_time() - start) / plan.num_in(step))
    return statistics.median(took)  # the garbage collector may come meanwhile


def parts_from(config: BenchConfig, decode_s: float) -> NodeParts:
    """Turn the command line's units into those of the prediction."""
    return NodeParts(
        cores=config.node_cores or num_cores(),
        decode_s=decode_s,
        gpu_images_per_s=config.gpus_per_node * config.images_per_gpu,
        link_bytes_per_s=config.link * 1e9 / 8,
        disk_bytes_per_s=1e6 * config.disk_mb,
        latency_s=1e-3 * config.latency_ms,
        connection_bytes_per_s=1e6 * config.connection_mb,
        num_downloads=DOWNLOADS * config.gpus_per_node,
    )


def _later(config: BenchConfig, node: Simulated) -> NodeShare:
    """Tell what a machine fetches once its cache is full: what does not fit (docs/remote.md)."""
    cached = 1.0
    if config.node_cache_gb and node.share.num_bytes:
        cached = min(1.0, GB * config.node_cache_gb / node.share.num_bytes)
    return dataclasses.replace(node.share, fetched=1.0 - cached, rows_bytes=0.0, rows_requests=0.0)


def _check_cache(config: BenchConfig, nodes: list[Simulated]) -> None:
    needed = max(node.open_bytes for node in nodes) / GB
    if config.node_cache_gb and config.node_cache_gb < needed:
        raise DataError(
            f"node_cache_gb is {config.node_cache_gb:g}, but a machine needs {needed:.3g} GB of "
            f"its shards at once: give at least {2 * needed + 0.001:.3g}, or fewer --shuffle-groups"
        )


def _set_line(index: DatasetIndex, plan: NearPlan, sizes: np.ndarray) -> str:
    order = plan.order
    return (
        f"{index.root}: {count_of(index.num_samples, 'image')}, {_gigabytes(sizes.sum())} GB in "
        f"{count_of(len(sizes), 'shard')}; batches of {plan.global_batch_size}, order near, "
        f"{count_of(order.groups, 'group')}, window "
        f"{order.window}"
    )


def _node_rows(config: BenchConfig, parts: NodeParts, nodes: list[Simulated]) -> list[str]:
    """Lay out what each machine reads, and how fast it could go if it did not wait for others."""
    header = (
        f"{'node':>5} {'images':>13} {'shards':>8} {'shared':>7} {'GB':>9} {'requests':>10}   "
        f"{'first epoch, images/s':24} later epochs, images/s"
    )
    rows = [header]
    for number, node in enumerate(nodes):
        share = node.share
        rows.append(
            f"{number:5} {share.images:13,.0f} {len(node.shards):8,} {node.num_shared:7,} "
            f"{_gigabytes(share.num_bytes):>9} {share.requests:10,.0f}   "
            f"{_rate_and_part(parts, share):24} {_rate_and_part(parts, _later(config, node))}"
        )
    return rows


def _rate_and_part(parts: NodeParts, share: NodeShare) -> str:
    if not share.images:
        return "nothing to read"
    limits = part_limits(parts, share)
    name = slowest(limits)
    return f"{limits[name]:,.0f} ({name})"


def _limit_rows(
    config: BenchConfig, parts: NodeParts, nodes: list[Simulated], num_images: int
) -> list[str]:
    """Say how fast all are together: in step, so as fast as the one that takes longest."""
    decoding = f"{parts.cores:g} cores, {1e6 * parts.decode_s:.0f} us of CPU an image"
    about = {
        "decoding": decoding + ("" if config.decode_us else " as measured here"),
        "link": f"{config.link:g} Gbit/s",
        "requests": f"{config.latency_ms:g} ms, {parts.num_downloads} at once",
        "disk": f"{config.disk_mb:g} MB/s" if config.disk_mb else "not counted",
        "GPU": f"{config.gpus_per_node} of {config.images_per_gpu:g} images/s",
    }
    epochs = {
        "first epoch": [node.share for node in nodes],
        "later epochs": [_later(config, node) for node in nodes],
    }
    limits = {name: _slowest_node(parts, shares) for name, shares in epochs.items()}
    rows = [f"{'all machines, images/s':24} {'first epoch':>14} {'later epochs':>14}"]
    for part, text in about.items():
        cells = "".join(f" {_spelled_limit(one[part]):>14}" for one in limits.values())
        rows.append(f"{part:24}{cells}   {text}")
    for name, one in limits.items():
        part = slowest(one)
        rows.append(
            f"{name}: {one[part]:,.0f} images/s, {_duration(num_images / one[part])} an epoch, limited by "
            f"{part}"
        )
    parts_that_limit = dict.fromkeys(slowest(one) for one in limits.values())
    rows += [f"what would help {part}: {KNOBS[part]}" for part in parts_that_limit]
    return rows


def _slowest_node(parts: NodeParts, shares: list[NodeShare]) -> dict[str, float]:
    """List what each part allows all machines in step: images/s of the one that takes longest."""
    total = sum(share.images for share in shares)
    all_limits = [(share.images, part_limits(parts, share)) for share in shares if share.images]
    return {
        part: total / max(images / limits[part] for images, limits in all_limits)
        if any(math.isfinite(limits[part]) for _, limits in all_limits)
        else math.inf
        for part in all_limits[0][1]
    }


def _closing_lines(
    config: BenchConfig,
    parts: NodeParts,
    index: DatasetIndex,
    plan: NearPlan,
    nodes: list[Simulated],
) -> list[str]:
    """Say what requests cost, what machines read twice, and how labels mix."""
    requests = sum(node.share.requests + node.share.rows_requests for node in nodes)
    later = sum(node.share.requests * _later(config, node).fetched for node in nodes)
    of_one, of_more = mixing_of(index, plan.order)
    return [
        _start_line(index, parts, nodes),
        f"requests: {requests:,.0f} in the first epoch, {1e-6 * requests * config.request_usd:,.4g} "
        f"USD; {later:,.0f} in each later one, {1e-6 * later * config.request_usd:,.4g} USD",
        _shared_line(plan, bytes_of_shards(index), nodes),
        f"mixing: the class counts of a batch vary {of_one:.1f} times as much as in a global "
        f"shuffle, those of {BATCHES} batches {of_more:.1f} times",
    ]


def _start_line(index: DatasetIndex, parts: NodeParts, nodes: list[Simulated]) -> str:
    """Say what comes before a machine's first batch (docs/remote.md)."""
    node = max(nodes, key=lambda each: each.first_rows_bytes)
    if node.first_rows_bytes:
        connections = min(CONNECTIONS, node.num_first)
        rate = connections * parts.connection_bytes_per_s
        at_once = dataclasses.replace(parts, connection_bytes_per_s=rate)
        waits = 1 + math.ceil(node.num_first / connections)  # the table is opened first
        return (
            f"start: {_gigabytes(node.first_rows_bytes)} GB of rows come to each machine before "
            f"its first batch, in {_duration(serial_time(at_once, node.first_rows_bytes, waits))}, "
            f"{_gigabytes(node.share.rows_bytes)} GB with its shards, once, of "
            f"{_gigabytes(index.samples.nbytes)} GB"
        )
    # of version 1 two readings must agree; of version 2 keys come when they are asked for
    num_tables = 1 if index.stored_keys is not None else 2
    num_bytes = index.samples.nbytes
    blocks = -(-num_bytes // BLOCK_BYTES) if is_by_blocks(index) else 1
    seconds = serial_time(parts, num_tables * num_bytes, num_tables * blocks)
    return (
        f"start: {_gigabytes(num_tables * num_bytes)} GB of tables come to each machine before its "
        f"first batch, once, in {_duration(seconds)}"
    )


def _shared_line(plan: NearPlan, sizes: np.ndarray, nodes: list[Simulated]) -> str:
    readers = np.bincount(np.concatenate([node.shards for node in nodes]), minlength=len(sizes))
    read = sum(node.share.num_bytes for node in nodes)
    line = (
        f"shared: {(readers > 1).sum():,} of {count_of(len(sizes), 'shard')} are read by several "
        "machines: "
        f"{read / sizes.sum() - 1:.1%} more is fetched in the first epoch than the set has"
    )
    groups = plan.order.groups
    if groups % len(nodes) == 0 and plan.global_batch_size % len(nodes) == 0:
        return line
    wanted = len(nodes) * math.ceil(groups / len(nodes))
    return (
        f"{line}; with --shuffle-groups {wanted}, a multiple of the machines, and such a "
        f"--global-batch-size they share at most a shard each"
    )


def _spelled_limit(images_per_s: float) -> str:
    return f"{images_per_s:,.0f}" if math.isfinite(images_per_s) else "-"


def _gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / GB:,.0f}" if num_bytes >= 1000 * GB else f"{num_bytes / GB:.3g}"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
