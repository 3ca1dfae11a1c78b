"""The scripts of docs/own_loop.md run as they are there."""

import re

import pytest
from accelerate.state import AcceleratorState

from tests.test_house import ROOT

PAGE = (ROOT / "docs/own_loop.md").read_text(encoding="utf-8")
SCRIPTS = [text for text in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "for " in text]


@pytest.fixture
def there(tmp_path, monkeypatch, digits):
    """A folder with the set that the scripts read, and a process that has accelerated nothing."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/digits").symlink_to(digits)
    monkeypatch.chdir(tmp_path)
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def test_both_are_found():
    assert len(SCRIPTS) == 2


@pytest.mark.parametrize("script", SCRIPTS, ids=["plain", "accelerate"])
def test_a_script_runs(there, script, capsys):
    names = {"__name__": "script"}
    exec(compile(script, "docs/own_loop.md", "exec"), names)
    if "val_loader" in names:
        assert 0 < float(capsys.readouterr().out) < 1
    else:
        assert names["scheduler"].get_last_lr() == [0]
    assert names["loader"].state_dict()["epoch"] == 2
