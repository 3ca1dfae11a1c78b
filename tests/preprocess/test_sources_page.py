"""docs/sources.md tells the truth: its example runs, its commands parse, no source or flag is left
out.
"""

import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from preprocess.shard import ShardConfig, _parse
from preprocess.sources.registry import SOURCES, find_source, options
from shards.index import DatasetIndex
from tests.conftest import write_photographs
from tests.preprocess.commands import shard

PAGE = (Path(__file__).parents[2] / "docs/sources.md").read_text(encoding="utf-8")
COMMANDS = [line for line in PAGE.splitlines() if line.startswith("python -m preprocess.shard")]
EXAMPLE = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)[1]


def test_the_example_packs(tmp_path, monkeypatch, capsys):
    assert len([line for line in EXAMPLE.splitlines() if line.strip()]) <= 30
    (tmp_path / "birds.py").write_text(EXAMPLE)
    rng = np.random.default_rng(0)
    shown = {}
    for record in write_photographs(tmp_path / "photos", 20):
        states = rng.integers(0, 3, 3)
        seen, unsure = (
            [name for name, s in zip(("crow", "robin", "wren"), states, strict=True) if s == n]
            for n in (1, 2)
        )
        shown[record.source] = {"file": record.source, "seen": seen, "unsure": unsure}
    text = "".join(json.dumps(line) + "\n" for line in shown.values())
    (tmp_path / "photos/birds.jsonl").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    command = next(line for line in COMMANDS if "birds:Birds" in line)
    status, _, errors = shard(monkeypatch, capsys, *shlex.split(command)[3:])
    assert status == 0, errors
    found = {}
    for split, num in (("train", 16), ("val", 4)):
        index = DatasetIndex.open(tmp_path / "data/birds" / split)
        assert (index.num_samples, index.class_names) == (num, ("crow", "robin", "wren"))
        for number in range(num):
            seen, unsure = (
                [index.class_names[n] for n in np.flatnonzero(row[number])]
                for row in (index.labels(), ~index.known())
            )
            found[index.key(number).replace("%20", " ") + ".jpg"] = (seen, unsure)
    assert found == {name: (line["seen"], line["unsure"]) for name, line in shown.items()}
    status, _, errors = shard(
        monkeypatch, capsys, *shlex.split(command)[3:], "--listing", "none.jsonl"
    )
    assert (status, errors.count("\n")) == (2, 1)
    assert "none.jsonl is missing; name the list with --listing" in errors
    sys.modules.pop("birds")


@pytest.mark.parametrize("command", [line for line in COMMANDS if "birds" not in line])
def test_commands_parse(command):
    config, source_class = _parse(shlex.split(command)[3:])
    assert source_class is find_source(config.source)


def test_every_source_and_every_flag_is_told():
    for name in SOURCES:
        section = re.search(rf"^## {name}\n(.*?)^## ", PAGE, re.DOTALL | re.MULTILINE)
        assert section is not None, name
        text = section[1] if name != "digits" else PAGE
        for flag in options(find_source(name)):
            assert f"--{flag.replace('_', '-')}" in text, (name, flag)
    for flag in ("val_fraction", "split_by", "split_seed"):
        assert hasattr(ShardConfig, flag)
        assert f"--{flag.replace('_', '-')}" in PAGE
