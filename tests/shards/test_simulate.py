"""The prediction of images/s, and what `python -m shards.bench --simulate` prints of a set."""

import math
import re
from pathlib import Path

import numpy as np
import pytest

from shards.bench import BenchConfig, main
from shards.errors import DataError
from shards.index import open_split
from shards.measuring.simulated_nodes import (
    KNOBS,
    bytes_of_rows,
    bytes_of_shards,
    is_by_blocks,
    near_plan,
    split_over_nodes,
)
from shards.measuring.throughput import NodeParts, NodeShare, part_limits, slowest
from shards.order.mixing import mixing_of
from shards.remote import split_tables
from shards.sampler import Order, World

# 1,000 images of 100 kB in 10 shards
SHARE = NodeShare(images=1000, num_bytes=1e8, requests=10)
FREE = NodeParts(cores=4, decode_s=1e-3, fetch_s_a_byte=0.0, fetch_s_a_request=0.0)


@pytest.mark.parametrize(
    ("parts", "part", "images_per_s"),
    [
        ({}, "decoding", 4000),
        # 1 ms of decoding and 1 ms of fetching 100 kB
        ({"fetch_s_a_byte": 1e-8}, "decoding", 2000),
        # and a hundredth of 100 ms a shard
        ({"fetch_s_a_request": 0.1}, "decoding", 2000),
        ({"link_bytes_per_s": 1e8}, "link", 1000),
        # 4 at once, each 0.4 s and 10 MB at 100 MB/s: 8 shards a second
        ({"latency_s": 0.4, "connection_bytes_per_s": 1e8}, "requests", 800),
        ({"latency_s": 0.5}, "requests", 800),
        ({"latency_s": 0.5, "num_downloads": 16}, "requests", 3200),
        # each image is written and read
        ({"disk_bytes_per_s": 1e8}, "disk", 500),
        ({"gpu_images_per_s": 300.0}, "GPU", 300),
    ],
)
def test_each_part_decides_where_it_is_the_slowest(parts, part, images_per_s):
    limits = part_limits(NodeParts(**{**vars(FREE), **parts}), SHARE)
    assert slowest(limits) == part
    assert limits[part] == pytest.approx(images_per_s)


def test_what_is_in_the_cache_costs_neither_link_nor_requests():
    parts = NodeParts(4, 1e-3, link_bytes_per_s=1e7, latency_s=1.0)
    first = part_limits(parts, SHARE)
    later = part_limits(parts, NodeShare(1000, 1e8, 10, fetched=0.25))
    assert later["link"] == pytest.approx(4 * first["link"])
    assert later["requests"] == pytest.approx(4 * first["requests"])
    cached = part_limits(parts, NodeShare(1000, 1e8, 10, fetched=0.0))
    assert cached["link"] == cached["requests"] == math.inf
    assert slowest(cached) == "decoding"


def test_rows_that_come_with_the_shards_cost_link_and_requests():
    parts = NodeParts(4, 1e-3, link_bytes_per_s=1e7, latency_s=1.0)
    alone = part_limits(parts, SHARE)
    both = part_limits(parts, NodeShare(1000, 1e8, 10, rows_bytes=1e8, rows_requests=10))
    assert both["link"] == pytest.approx(alone["link"] / 2)
    assert both["requests"] == pytest.approx(alone["requests"] / 2)


def test_every_part_has_a_remedy():
    assert KNOBS.keys() == part_limits(FREE, SHARE).keys()


@pytest.mark.parametrize(
    ("num_nodes", "gpus", "groups"), [(1, 1, 0), (2, 2, 4), (3, 1, 4), (4, 2, 4)]
)
def test_machines_have_the_shards_that_their_ranks_read(many_shards, num_nodes, gpus, groups):
    config = BenchConfig(
        str(many_shards),
        global_batch_size=16,
        simulate=num_nodes,
        gpus_per_node=gpus,
        shuffle_groups=groups,
    )
    index = open_split(many_shards, "train")
    sizes = bytes_of_shards(index)
    rows = bytes_of_rows(index)
    assert not rows.any()  # a small table comes whole
    rows = 7 * index.shard_sizes
    nodes = split_over_nodes(near_plan(index, config), sizes, num_nodes, False, rows)
    samples = np.repeat(np.arange(len(sizes)), index.shard_sizes)
    read = [set() for _ in range(num_nodes)]
    first = [set() for _ in range(num_nodes)]
    images = np.zeros(num_nodes)
    for rank in range(num_nodes * gpus):
        world = World(rank, num_nodes * gpus, gpus)
        plan = Order("near", groups).plan(index, 16, True, 0, world)
        for epoch in (0, 3):
            for step in range(plan.num_steps):
                ids = plan.local_ids(epoch, step)
                read[rank // gpus].update(samples[ids[ids >= 0]].tolist())
                if epoch == step == 0:
                    first[rank // gpus].update(samples[ids[ids >= 0]].tolist())
                images[rank // gpus] += (ids >= 0).sum() / 2
    for node, shards, count in zip(nodes, read, images, strict=True):
        # of a group that it shares with another machine, one may read no sample of a shard
        assert shards <= set(node.shards.tolist())
        assert node.share.num_bytes == sizes[node.shards].sum()
        assert node.share.rows_bytes == rows[node.shards].sum()
        assert node.share.rows_requests == len(node.shards)
        assert node.share.images == pytest.approx(count, abs=16)
    for node, shards in zip(nodes, first, strict=True):
        assert len(shards) <= node.num_first <= len(node.shards)
        assert sum(rows[list(shards)]) <= node.first_rows_bytes
    both = [
        sum(shard in set(other.shards.tolist()) for other in nodes) > 1
        for shard in range(len(sizes))
    ]
    assert [node.num_shared for node in nodes] == [
        sum(both[shard] for shard in node.shards) for node in nodes
    ]
    if groups % num_nodes == 0:
        assert sum(both) <= num_nodes - 1


@pytest.fixture(scope="module")
def many_shards(tmp_path_factory) -> Path:
    """A set of 64 images in 16 shards of 4."""
    from preprocess.sources.digits import write_digits
    from preprocess.sources.voc import VOC
    from tests.train.conftest import pack_here

    root = tmp_path_factory.mktemp("simulated")
    write_digits(root / "voc", num_train=64, num_val=4, size=32)
    source = VOC(root / "voc")
    pack_here(root / "set", source.records("train"), "train", source.class_names, shard_samples=4)
    return root / "set"


def simulated(capsys, *args: object) -> str:
    main([*map(str, args)])
    return capsys.readouterr().out


def test_it_prints_machines_limits_requests_and_mixing(many_shards, capsys):
    quick = ["--simulate", 2, "--gpus-per-node", 2, "--node-cores", 4, "--decode-us", 1000]
    text = simulated(capsys, many_shards, *quick, "--shuffle-groups", 2, "--images-per-gpu", 500)
    rows = [line.split() for line in text.splitlines() if re.match(r" +[01] ", line)]
    assert [row[1] for row in rows] == ["32", "32"]
    assert {row[-1] for row in rows} == {"(GPU)"}
    assert re.search(r"^decoding +[\d,]+ +8,000 +4 cores, 1000 us of CPU an image$", text, re.M)
    assert re.search(r"^link +[\d,]+ +- +10 Gbit/s$", text, re.M)
    assert re.search(r"^later epochs: 2,000 images/s, 0.0 s an epoch, limited by GPU$", text, re.M)
    # rows.npy in a bucket: an answer after 0.1 s
    assert re.search(
        r"^start: \S+ GB of tables come to each machine .* once, in 0.1 s$", text, re.M
    )
    assert "what would help GPU" in text
    assert re.search(r"^requests: 1[67] in the first epoch, 6.\de-06 USD; 0 in each", text, re.M)
    assert re.search(r"^shared: [01] of 16 shards", text, re.M)
    assert "with --shuffle-groups" not in text
    config = BenchConfig(str(many_shards), simulate=2, gpus_per_node=2, shuffle_groups=2)
    index = open_split(many_shards, "train")
    of_one, of_ten = mixing_of(index, near_plan(index, config).order)
    assert f"a batch vary {of_one:.1f} times as much" in text
    assert f"those of 10 batches {of_ten:.1f} times" in text


def test_rows_of_a_large_table_come_with_their_shards(many_shards, capsys, monkeypatch):
    monkeypatch.setattr(split_tables, "WHOLE_BYTES", 0)
    quick = ["--simulate", 2, "--gpus-per-node", 2, "--node-cores", 4, "--decode-us", 1000]
    text = simulated(capsys, many_shards, *quick, "--shuffle-groups", 2, "--images-per-gpu", 500)
    # opened, then the rows of a shard: two answers after 0.1 s
    assert re.search(
        r"^start: \S+ GB of rows come to each machine before its first batch, in 0.2 s, \S+ GB with "
        r"its shards, once, of \S+ GB$",
        text,
        re.M,
    )
    assert re.search(r"^requests: 3[24] in the first epoch, \S+ USD; 0 in each", text, re.M)


def test_decoding_is_measured_where_it_is_not_given(many_shards, capsys):
    text = simulated(capsys, many_shards, "--simulate", 1, "--gpus-per-node", 1, "--size", 32)
    found = re.search(r"(\d+) us of CPU an image as measured here", text)
    assert found
    assert int(found[1]) > 0


def test_groups_that_machines_do_not_divide_are_named(many_shards, capsys):
    quick = ["--simulate", 3, "--gpus-per-node", 1, "--decode-us", 1000, "--global-batch-size", 48]
    text = simulated(capsys, many_shards, *quick, "--shuffle-groups", 4)
    assert "with --shuffle-groups 6, a multiple of the machines" in text


def test_a_server_is_asked_for_its_tables_alone(many_shards, capsys, tmp_path):
    from benchmarks.object_server import ObjectServer

    quick = ["--simulate", 2, "--gpus-per-node", 1, "--decode-us", 1000]
    with ObjectServer(many_shards) as server:
        text = simulated(capsys, server.url, *quick, "--cache-dir", tmp_path)
        asked = set(server.asked)
    assert "64 images" in text
    assert not [name for name in asked if name.endswith(".tar")]
    index = open_split(many_shards, "train")
    assert is_by_blocks(index)  # a folder, as if it were in a bucket


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"link": 5.0}, "link is 5, but simulate is 0: leave it out, or give --simulate NODES"),
        ({"simulate": 2, "seconds": 3.0}, "seconds is 3, but simulate is 2: leave it out"),
        ({"simulate": 2, "cache": "ram"}, "cache is ram, but simulate is 2: leave it out"),
        ({"simulate": -1}, "simulate is -1: give at least 1"),
    ],
)
def test_options_that_do_nothing_are_refused(options, says):
    with pytest.raises(DataError) as raised:
        BenchConfig("x", **options)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--global-batch-size", 8, "--simulate", 3], "3 machines of 8 GPUs make 24 ranks"),
        (
            ["--simulate", 1, "--gpus-per-node", 1, "--node-cache-gb", 0.000001],
            "of its shards at once: give at least",
        ),
        (["--simulate", 1, "--shuffle-groups", 65], "shuffle_groups is 65"),
    ],
)
def test_what_would_not_run_is_refused(many_shards, args, says):
    with pytest.raises(DataError) as raised:
        main([str(many_shards), *map(str, args)])
    assert says in str(raised.value)
